// Answers of a blind listening test: kept in this browser while they are given, then saved as a CSV file.
{
  const form = document.querySelector("form"), key = `blind-${form.dataset.test}`;
  const answers = () => Object.fromEntries(new FormData(form));
  const quoted = (cells) => cells.map((cell) => `"${String(cell ?? "").replaceAll('"', '""')}"`).join(",");
  const triples = [...form.querySelectorAll("[data-triple]")].map((one) => one.dataset.triple);
  const chosen = (answer, letter) => (answer ? Number(answer === letter) : "");

  const csv = () => {
    const given = answers(), rows = [["test", "listener", "triple", "clip", "genre", "most", "liked"]];
    for (const n of triples) for (const letter of "ABC") {
      const heard = [given[`genre-${n}-${letter}`], chosen(given[`most-${n}`], letter), chosen(given[`liked-${n}`], letter)];
      rows.push([form.dataset.test, given.listener, n, letter, ...heard]);
    }
    return rows.map(quoted).join("\n") + "\n";
  };

  const show = () => {
    const given = answers(), done = triples.filter((n) => given[`most-${n}`] && given[`liked-${n}`]).length;
    document.getElementById("done").textContent = `${done} of ${triples.length} groups answered.`;
    document.getElementById("text").textContent = csv();
  };

  try {
    for (const [name, value] of Object.entries(JSON.parse(localStorage.getItem(key)) ?? {})) {
      if (form.elements[name]) form.elements[name].value = value;
    }
  } catch { /* a browser that keeps nothing */ }
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", () => {
    try { localStorage.setItem(key, JSON.stringify(answers())); } catch { /* the same */ }
    show();
  });
  document.getElementById("save").addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
    link.download = `answers-${answers().listener.replaceAll(/\W+/g, "-") || "listener"}.csv`;
    link.click();
  });
  show();
}
