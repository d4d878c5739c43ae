// Put in front of the script of each widget: it goes on hearing the kernel, however busy the page was at first.

// anywidget waits 2 s for a widget's script. Where a busy page took longer it drops every later message of the kernel,
// and the widget stays as it was, without a word. Then ours takes the messages itself, and asks for what it has missed.
async function keepHearing(model) {
  const real = await model.widget_manager.get_model(model.get("key"));
  const nothing = { content: { data: {} } }; // no method: a widget that still hears does nothing with it
  await real._handle_comm_msg(nothing).catch(() => {
    const hear = Object.getPrototypeOf(real.constructor.prototype)._handle_comm_msg;
    real.comm?.on_msg((message) => hear.call(real, message));
    real.comm?.send({ method: "request_state" }, {});
  });
}

// The widget that a script exports, hearing.
function hearing({ initialize, ...widget }) {
  return { ...widget, initialize(context) {
    keepHearing(context.model).catch((error) => console.warn("This widget may not hear the kernel.", error));
    return initialize?.(context);
  } };
}

