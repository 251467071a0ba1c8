// The page: one benchmark at a time, then figures and runs.

const DATA = JSON.parse(document.getElementById("data").textContent);
const hidden = new Set();
const COLUMN = 3.4, PAGE = 7.0;  // inches
let shown = 0, task = "";

function show() {
  document.title = DATA.title;
  document.getElementById("title").textContent = DATA.title;
  document.getElementById("benchmarks").replaceChildren(...(DATA.benchmarks.length > 1
    ? [make("div", { class: "chips" }, ...DATA.benchmarks.map((b, i) =>
      chip(b.name, i === shown, () => { shown = i; task = ""; show(); })))] : []));
  const b = DATA.benchmarks[shown];
  if (!b.tasks.includes(task)) task = b.tasks[0] || "";
  document.getElementById("main").replaceChildren(
    ...DATA.notes.map((note) => make("p", { class: "soft" }, note)),
    make("h2", {}, "Results"), summary(b),
    make("p", { class: "soft" }, "Final success; IQM over seeds of the mean over tasks, with its 95 % interval " +
      "from resampling whole runs. Actor, critics and both: their trained parameters. " + b.protocol.map((line) => line.replace(/\.$/, "")).join("; ") + "."),
    ...comparisons(b),
    make("h2", {}, "Learning curves"), make("div", { id: "toggles" }), make("div", { id: "curves" }),
    make("p", { class: "soft" }, "Lines: IQM over seeds; shades: its 95 % interval."),
    make("h2", {}, "Tasks"), make("div", { id: "tasks" }), make("div", { id: "task" }),
    ...(DATA.figures.length ? [make("h2", {}, "Figures"), gallery()] : []), ...leftOut(),
    make("h2", {}, "Runs"), runs(b), make("div", { id: "details" }, ...b.runs.map(details)));
  toggles(b);
  tasks(b);
}

function summary(b) {
  const of = (name) => (c) => c.aggregates[name][0];
  const columns = [
    { name: "configuration", key: (c) => c.name, cell: (c) => make("span", {}, swatch(c.colour), c.name) },
    { name: "runs", key: (c) => c.runs, cell: (c) => String(c.runs) },
    { name: "IQM over seeds", key: of("IQM over seeds"), cell: (c) => interval(c.aggregates["IQM over seeds"]) },
    ...Object.keys((b.configurations[0] || { aggregates: {} }).aggregates).slice(1).map((name) => (
      { name, key: of(name), cell: (c) => number(c.aggregates[name][0]) })),
    ...["actor", "critics", "both"].map((name, i) => (
      { name, key: (c) => c.parameters[i], cell: (c) => size(c.parameters[i]) })),
    { name: "env steps", key: (c) => c.steps[0], cell: (c) => c.steps.map(steps).join(", ") },
  ];
  return sortable(columns, b.configurations);
}

function interval([value, low, high]) {
  return number(value) + (low === null ? "" : ` [${number(low)}, ${number(high)}]`);
}

function comparisons(b) {
  if (!b.comparisons.length) return [];
  return [make("details", DATA.control ? { open: true } : {}, make("summary", {}, b.compared),
    ...b.comparisons.map((text) => make("p", { class: "soft" }, text)))];
}

function visible(b) {
  return b.configurations.filter((c) => !hidden.has(c.label));
}

function toggles(b) {
  const press = (labels) => () => {
    const off = labels.every((label) => hidden.has(label));
    labels.forEach((label) => (off ? hidden.delete(label) : hidden.add(label)));
    toggles(b);
  };
  const algorithms = [...new Set(b.configurations.map((c) => c.algorithm))];
  const several = b.configurations.length > algorithms.length;
  const group = (name) => b.configurations.filter((c) => c.algorithm === name);
  const row = (chips) => make("div", { class: "chips" }, ...chips);
  document.getElementById("toggles").replaceChildren(
    row(algorithms.map((name) => chip(several ? `all ${name}` : name,
      group(name).some((c) => !hidden.has(c.label)), press(group(name).map((c) => c.label)), group(name)[0].colour))),
    ...(several ? [row(b.configurations.map((c) =>
      chip(c.name, !hidden.has(c.label), press([c.label]), c.colour)))] : []));
  chart(document.getElementById("curves"), series(b, b.curves), 320);
  drill(b);
}

function series(b, curves) {
  return visible(b).filter((c) => curves[c.label]).map((c) => (
    { ...curves[c.label], name: c.name, label: c.label, colour: c.colour, dash: c.dash }));
}

function tasks(b) {
  if (!b.tasks.length) {
    document.getElementById("tasks").replaceChildren(make("p", { class: "soft" }, "No results of single tasks."));
    return;
  }
  const choose = (name) => () => { task = name; tasks(b); drill(b); };
  const press = (name) => make("button", { type: "button", onclick: choose(name) }, short(name));
  const columns = [
    { name: "task", key: (name) => name, cell: press },
    ...b.configurations.map((c) => (
      { name: c.name, key: (name) => c.tasks[name], cell: (name) => shade(c.tasks[name]) })),
  ];
  // More configurations than tasks go down the page, where there is room.
  const across = [
    { name: "configuration", key: (c) => c.name, cell: (c) => make("span", {}, swatch(c.colour), c.name) },
    ...b.tasks.map((name) => (
      { name: short(name), key: (c) => c.tasks[name], cell: (c) => shade(c.tasks[name]) })),
  ];
  const many = b.configurations.length > b.tasks.length;
  document.getElementById("tasks").replaceChildren(
    make("p", { class: "soft" }, "Final success, mean over runs. Choose a task to see its curves and films."),
    ...(many ? [make("div", { class: "chips tabs" }, ...b.tasks.map((name) =>
      chip(short(name), name === task, choose(name)))), sortable(across, b.configurations)]
      : [sortable(columns, b.tasks, (name) => (name === task ? "chosen" : null))]));
}

function drill(b) {
  const place = document.getElementById("task");
  if (!task) return place.replaceChildren();
  const labels = new Set(visible(b).map((c) => c.label));
  const films = b.runs.filter((r) => r.films[task] && labels.has(r.label));
  place.replaceChildren(make("h3", { id: "chosen" }, short(task)),
    make("div", { id: "task-curves" }),
    make("p", { class: "soft" }, "Lines: mean over runs; shades: from the least to the greatest run."),
    films.length ? make("div", { class: "films" }, ...films.map(film)) : noFilm(b));
  chart(document.getElementById("task-curves"), series(b, b.taskCurves[task] || {}), 240);
}

function film(r) {
  const { image, success, return: total } = r.films[task];
  const went = `${r.run}\none episode: ${success ? "success" : "no success"}, return ${number(total, 0)}`;
  return make("figure", {}, make("img", { src: image, alt: `${r.run} on ${short(task)}`, width: 224, height: 224 }),
    make("figcaption", {}, went));
}

function noFilm(b) {
  const run = b.runs.find((r) => r.folder);
  return make("p", { class: "soft" }, "No film of this task. Where a run's weights are still there, make them with ",
    make("code", {}, ".venv/bin/python -m suite film " + (run ? run.folder : "RUN_DIRECTORY")), " and build the report again.");
}

// Figures of a paper's column stand in pairs and those of a page alone, so that all have one size of
// type; a column that is left over has its caption beside it.
function gallery() {
  const narrow = DATA.figures.filter((f) => f.inches <= COLUMN);
  const rest = narrow.length % 2 ? narrow[narrow.length - 1] : null;
  return make("div", { class: "gallery" }, ...DATA.figures.map((f) => {
    const kind = f === rest ? "column rest" : f.inches <= COLUMN ? "column" : "page";
    const room = f.inches <= COLUMN ? COLUMN : PAGE;
    return make("figure", { class: kind }, make("h3", {}, f.title),
      make("img", { src: f.image, alt: f.title, loading: "lazy", style: `width:${100 * Math.min(1, f.inches / room)}%` }),
      make("div", {}, make("figcaption", {}, f.caption),
        make("details", {}, make("summary", {}, "Runs and protocol"), make("figcaption", {}, f.runs))));
  }));
}

function leftOut() {
  if (!DATA.leftOut.length) return [];
  return [make("details", {}, make("summary", {}, `Figures that these rows do not support: ${DATA.leftOut.length}`),
    ...DATA.leftOut.map(([title, reason]) => make("p", { class: "soft" }, `${title} ${reason}.`)))];
}

function runs(b) {
  const columns = [
    { name: "run", key: (r) => r.run,
      cell: (r) => make("button", { type: "button", onclick: () => open(r) }, r.run) },
    { name: "seed", key: (r) => r.seed, cell: (r) => String(r.seed) },
    { name: "final success", key: (r) => r.success, cell: (r) => number(r.success) },
    { name: "device", key: (r) => r.rows.device || "", cell: (r) => r.rows.device || "–" },
    { name: "suite", key: (r) => r.rows.version_mtscale || "", cell: (r) => r.rows.version_mtscale || "–" },
  ];
  return sortable(columns, b.runs);
}

function open(r) {
  const node = document.getElementById("run-" + r.index);
  node.open = true;
  node.scrollIntoView({ block: "start" });
}

function details(r) {
  const node = make("details", { id: "run-" + r.index }, make("summary", {}, r.run));
  // A hundred configurations as text would be most of the page: each is written when it is opened.
  node.addEventListener("toggle", () => {
    if (!node.open || node.childElementCount > 1) return;
    const part = (name, value) => value && Object.keys(value).length
      ? [make("h3", {}, name), make("pre", {}, JSON.stringify(value, null, 1))]
      : [make("p", { class: "soft" }, `${name}: not beside the rows.`)];
    node.append(make("p", { class: "soft" }, r.source),
      ...part("Final success a task", r.tasks), ...part("Configuration", r.config),
      ...part("Provenance", r.provenance), ...part("Columns of its rows", r.rows));
  });
  return node;
}

DATA.runs.forEach((r, index) => { r.index = index; });
DATA.benchmarks.forEach((b) => {
  b.runs = DATA.runs.filter((r) => b.members.includes(r.run));
});
show();
