// The setup side of the page: what happens in the browser at once, with no round trip.
if (!window.kd) {
const kd = window.kd = {};

// Every control as a preset has it, in the order of the outputs; `length` stays as it was chosen.
kd.filled = (name, length) => {
  const preset = kd.presets[name];
  const kept = preset.seconds[length] ? length : "good";
  return [
    kept, preset.controls, kd.update(preset.teacher), "", kd.update(null, preset.families),
    kd.update(preset.used, preset.methods), preset.ratio, preset.alpha, "seconds", preset.seconds[kept],
    ...preset.fields, kd.stamp(),
  ];
};
kd.kind = (kind, length) => {
  const names = kd.kinds[kind];
  return [kd.update(names[0][1], names), ...kd.filled(names[0][1], length)];
};
kd.length = (name, length) => {
  const seconds = kd.presets[name].seconds[length];
  return seconds ? ["seconds", seconds, kd.stamp()] : [undefined, undefined, kd.stamp()];
};
kd.update = (value, choices) => ({__type__: "update", value, ...(choices ? {choices} : {})});
kd.stamp = () => `${Date.now()}-${Math.random()}`;

// A teacher that was brought, as {reference, kind}, with a preset of its kind.
kd.own = (taken, kind, name, length) => {
  const rest = kd.presets[name].fields.length + 9;
  if (!taken) return Array(rest + 4).fill(undefined);
  const own = JSON.parse(taken), names = own.kind === kind ? null : kd.kinds[own.kind];
  const like = names && (names.find((each) => each[1] === own.preset) || names[0])[1];
  const filled = names ? kd.filled(like, length) : Array(rest + 2).fill(undefined);
  filled[2] = kd.update(own.reference);
  filled[filled.length - 1] = kd.stamp();
  return [names ? own.kind : undefined, names ? kd.update(like, names) : undefined, ...filled];
};

// What was chosen is kept in this browser.
kd.keep = (...values) => {
  const kept = values.slice(0, -1);  // pictures are brought anew
  document.body.classList.add("kd-pending");
  try { localStorage.setItem("kd-setup", JSON.stringify(kept)); } catch { /* a browser that keeps nothing */ }
  return values;
};
kd.settled = () => document.body.classList.remove("kd-pending");
kd.recall = () => {
  const [kind, preset, ...rest] = kd.kept() || [];
  const known = kd.kinds[kind] && kd.presets[preset] && rest.length === kd.presets[preset].fields.length + 10;
  const first = Object.keys(kd.kinds)[0];
  const [a, b] = known ? [kind, preset] : [first, kd.kinds[first][0][1]];
  const filled = kd.filled(b, known ? rest[0] : "good");
  const names = kd.kinds[a];
  if (!known) return [a, kd.update(b, names), ...filled];
  const values = filled.map((value, at) => at >= rest.length ? value
    : value && value.__type__ ? {...value, value: rest[at]} : rest[at]);
  return [a, kd.update(b, names), ...values];
};
kd.kept = () => {
  try { return JSON.parse(localStorage.getItem("kd-setup")); } catch { return null; }
};

// The text of the recipe follows the controls until somebody edits it.
kd.settle = (composed, text, shown) => {
  const own = (text || "") !== (shown || "");
  kd.edited(own);
  return own ? [text, shown] : [composed, composed];
};
kd.edited = (own) => document.body.classList.toggle("kd-own-recipe", own);
kd.take = (composed) => { kd.edited(false); return [composed, composed]; };
document.addEventListener("input", (event) => {
  if (event.target.matches?.("#kd-recipe textarea"))
    kd.edited(event.target.value !== document.querySelector("#kd-shown :is(textarea, input)").value);
});

kd.dark = () => {
  const dark = document.body.classList.toggle("dark");
  try { localStorage.setItem("kd-dark", dark ? "1" : "0"); } catch { /* the same */ }
};
kd.light = () => {
  try {
    const chosen = localStorage.getItem("kd-dark");
    if (chosen !== null) document.body.classList.toggle("dark", chosen === "1");
  } catch { /* the same */ }
};

// Arrow keys move between cards as between radio buttons of one name.
document.addEventListener("keydown", (event) => {
  const steps = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1};
  const card = event.target.closest?.(".kd-cards input[type=radio]");
  if (!card || !(event.key in steps)) return;
  const cards = [...card.closest(".kd-cards").querySelectorAll("input[type=radio]")];
  const next = cards[(cards.indexOf(card) + steps[event.key] + cards.length) % cards.length];
  event.preventDefault();
  event.stopPropagation();
  next.focus();
  next.click();
}, true);

// What is wrong with a number stands under it as it is written.
kd.check = (input) => {
  const field = input.closest("[id^=kd-field-]");
  const rule = field && kd.rules[field.id.slice("kd-field-".length)];
  if (!rule) return;
  const value = input.value.trim(), number = Number(value);
  const missing = value === "" && (input.validity.badInput || !rule.optional);
  let wrong = "";
  if (missing || Number.isNaN(number)) wrong = rule.number;
  else if (value !== "" && rule.whole && !Number.isInteger(number)) wrong = rule.integer;
  else if (value !== "" && (number < rule.low || number > rule.high)) wrong = rule.range;
  kd.note(field, input, wrong);
  input.setAttribute("aria-invalid", wrong ? "true" : "false");
};
kd.note = (field, input, told) => {
  let note = field.querySelector(".kd-wrong");
  if (!note) {
    note = document.createElement("p");
    note.className = "kd-wrong";
    note.id = `${field.id}-wrong`;
    note.setAttribute("role", "alert");
    field.append(note);
    input.setAttribute("aria-describedby", note.id);
  }
  if (note.textContent !== told) note.textContent = told;
};
document.addEventListener("input", (event) => {
  const input = event.target;
  if (input.matches?.("[id^=kd-field-] input[type=number]")) kd.check(input);
  if (input.matches?.("#kd-prompt :is(textarea, input)"))  // the browser lets no more in
    kd.note(input.closest("#kd-prompt"), input, input.value.length < kd.prompt.most ? "" : kd.prompt.full);
});

// After Start on a narrow screen the run comes into view.
kd.follow = () => {
  const notice = document.querySelector("#kd-notice .kd-notice");
  const shown = notice || document.querySelector("#kd-status");
  document.querySelectorAll("[id^=kd-field-] input[type=number]").forEach(kd.check);
  if (shown && (notice || innerWidth < 900)) shown.scrollIntoView({behavior: "smooth", block: notice ? "nearest" : "start"});
};
}
