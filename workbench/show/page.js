// One clip at a time: what begins to play silences the others.
document.addEventListener("play", (event) => {
  document.querySelectorAll("audio").forEach((other) => { if (other !== event.target) other.pause(); });
}, true);
