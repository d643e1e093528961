(() => {
  if (window.kdgenPage) return;
  window.kdgenPage = true;
  const settle = (slides) => {
    const name = slides.querySelector(".kd-pictures input:checked")?.value;
    const left = slides.querySelector(".kd-lefts input:checked")?.value;
    if (name) slides.querySelectorAll(".kd-stage").forEach((stage) => { stage.hidden = stage.dataset.name !== name; });
    if (left) slides.dataset.left = left;
  };
  document.addEventListener("input", (event) => {
    const target = event.target;
    if (!(target instanceof HTMLInputElement)) return;
    if (target.type === "range" && target.parentElement?.matches(".kd-stage"))
      target.parentElement.style.setProperty("--at", target.value + "%");
    const slides = target.closest(".kd-pick") && target.closest(".kd-slides");
    if (slides) settle(slides);
  });
  const copy = (button) => {
    const text = document.getElementById(button.dataset.copies)?.innerText ?? "";
    navigator.clipboard?.writeText(text).then(() => { button.textContent = button.dataset.copied; });
  };
  document.addEventListener("click", (event) => {
    const button = event.target instanceof Element ? event.target.closest("button") : null;
    if (!button) return;
    if (button.matches(".kd-full"))
      button.closest(".kd-slides").querySelector(".kd-stage:not([hidden])").requestFullscreen?.();
    if (button.matches("[data-copies]")) copy(button);
    if (button.id === "kd-start" && window.Notification?.permission === "default") Notification.requestPermission();
  });
  const title = document.title;
  let live, state = "", told = "";
  const follow = () => {
    const status = document.querySelector("#kd-status .kd-status[data-told]");
    if (!status) return;
    if (!live) {
      live = document.createElement("div");
      live.id = "kd-live";
      live.setAttribute("role", "status");
      live.setAttribute("aria-live", "polite");
      document.body.append(live);
    }
    if (status.dataset.told !== told) live.textContent = told = status.dataset.told;
    const named = status.dataset.title || title;
    if (document.title !== named) document.title = named;
    const over = ["done", "failed"].includes(status.dataset.state);
    if (over && ["running", "queued"].includes(state) && document.hidden && window.Notification?.permission === "granted")
      new Notification("kdgen", {body: told, tag: "kdgen-run"});
    state = status.dataset.state;
  };
  // Whenever anything changes on the page Gradio asks the editor for its value, and it uploads all that it shows. Of
  // that only what was painted is sent, once for each button that is pressed.
  const send = window.fetch.bind(window);
  let painted = {};
  document.addEventListener("click", (event) => { if (event.target.closest?.("button, label")) painted = {}; }, true);
  window.fetch = (where, options) => {
    const file = options?.body instanceof FormData ? options.body.get("files") : null;
    const part = file instanceof File && Date.now() - file.lastModified < 5000 && document.getElementById("kd-brush")
      && /^(?:(layer_\d+)\.png|(?:background|composite)\.png|image\.webp)$/.exec(file.name);
    if (!part) return send(where, options);
    if (!part[1]) return Promise.resolve(new Response('["unsent.png"]', {headers: {"Content-Type": "application/json"}}));
    painted[part[1]] ??= send(where, options);
    return painted[part[1]].then((answer) => answer.clone());
  };
  // What stands on a place for files is its name: Gradio gives it another, which speech control would not find.
  const named = () => document.querySelectorAll(".upload-container[aria-label]").forEach((each) => each.removeAttribute("aria-label"));
  new MutationObserver(() => { named(); follow(); }).observe(document.body ?? document.documentElement, {childList: true, subtree: true});
})();
