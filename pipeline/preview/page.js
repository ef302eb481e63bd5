// The live page: asks for the status once a second and for each source's next picture as soon as
// the last one is shown, so that a slow device or network gets fewer pictures and no old ones.

const STATUS_MS = 1000;
const TIMEOUT_MS = 4000; // after which the program counts as lost
const OLD_MS = 2000; // a picture older than this is marked

const $ = (id) => document.getElementById(id);
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
const count = (n) => n.toLocaleString("en");
const ms = (value) => (value < 9950 ? count(Math.round(value)) : `${Math.round(value / 1000)} s`);

function duration(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  return `${count(Math.floor(s / 3600))} h ${Math.floor((s % 3600) / 60)} min`;
}

function setText(element, text) {
  // Screen readers announce again what is set again.
  if (element.textContent !== text) element.textContent = text;
}

// A page in the background asks for nothing, so it costs the program nothing.
async function visible() {
  while (document.hidden) {
    await new Promise((done) =>
      document.addEventListener("visibilitychange", done, { once: true }),
    );
  }
}

async function ask(path, options = {}) {
  const answer = await fetch(path, { ...options, signal: AbortSignal.timeout(TIMEOUT_MS) });
  if (answer.status === 401) location.reload(); // which asks for the password
  return answer;
}

// The sources ------------------------------------------------------------------------------------

const WORDS = {
  connecting: "Connecting",
  connected: "Connected",
  stalled: "Stalled",
  reconnecting: "Reconnecting",
  "given up": "Given up",
  ended: "Ended",
};

class Source {
  constructor(id) {
    this.id = id;
    this.last = 0;
    this.element = $("source").content.firstElementChild.cloneNode(true);
    this.image = this.element.querySelector("img");
    this.watch();
  }

  part(selector) {
    return this.element.querySelector(selector);
  }

  figure(name, text) {
    setText(this.part(`[data-figure="${name}"]`), text);
  }

  show(status, classes) {
    const { state } = status;
    this.element.dataset.state = state;
    const name = this.part("h2");
    setText(name, status.name);
    name.title = status.name;
    this.image.alt = `Picture of ${status.name}, objects marked`;
    setText(this.part(".word"), WORDS[state] ?? state);
    setText(this.part(".since"), state === "connected" ? "" : duration(status.since_s));

    const { p50, p95, p99 } = status.latency_ms;
    this.figure("fps", status.fps.toFixed(status.fps < 9.95 ? 1 : 0));
    for (const [key, value] of Object.entries({ p50, p95, p99 })) {
      this.figure(key, status.processed ? ms(value) : "–");
    }
    const drops = Object.entries(status.dropped).filter(([, n]) => n);
    this.figure("dropped", count(drops.reduce((sum, [, n]) => sum + n, 0)));
    const remarks = drops.map(([reason, n]) => `${count(n)} ${reason}`);
    if (status.reconnects) remarks.push(`connected again ${count(status.reconnects)} times`);
    this.figure("remarks", remarks.join(", "));
    this.showFound(status, classes);
    this.showAge(status);
  }

  showFound(status, classes) {
    const list = this.part(".found");
    classes.forEach(({ name, colour }, i) => {
      const tile = list.children[i] ?? list.appendChild(document.createElement("div"));
      if (!tile.children.length) {
        for (const tag of ["dt", "dd", "dd"]) tile.append(document.createElement(tag));
        tile.children[1].className = "value";
        tile.children[2].className = "note";
        tile.style.setProperty("--colour", colour);
      }
      setText(tile.children[0], name);
      setText(tile.children[1], count(status.now[name] ?? 0));
      setText(tile.children[2], `${count(status.total[name] ?? 0)} in all`);
    });
  }

  showAge(status) {
    const veil = this.part(".veil");
    const old = status.age_ms === null || status.age_ms > OLD_MS;
    veil.hidden = !old || (status.state === "ended" && !this.image.hidden);
    setText(
      veil,
      status.age_ms === null ? "No picture yet" : `This picture is ${duration(status.age_ms / 1000)} old`,
    );
  }

  async watch() {
    await sleep(0); // the element is put into the page first
    while (this.element.isConnected) {
      await visible();
      try {
        const answer = await ask(`/pictures/${this.id}?last=${this.last}`);
        if (answer.status === 200) {
          await this.showPicture(await answer.blob());
          this.last = answer.headers.get("X-Picture");
        } else {
          // Browsers have six connections for a server: leave some for cameras that deliver.
          await sleep(answer.status === 204 ? 300 : STATUS_MS);
        }
      } catch {
        await sleep(STATUS_MS);
      }
    }
  }

  async showPicture(blob) {
    const before = this.image.src;
    this.image.src = URL.createObjectURL(blob);
    await this.image.decode();
    this.image.hidden = false;
    if (before) URL.revokeObjectURL(before);
  }
}

const sources = new Map();

function showSources(list, classes) {
  for (const [id, source] of sources) {
    if (!list.some((status) => status.id === id)) {
      source.element.remove();
      sources.delete(id);
    }
  }
  for (const status of list) {
    if (!sources.has(status.id)) {
      sources.set(status.id, new Source(status.id));
      $("sources").append(sources.get(status.id).element);
    }
    sources.get(status.id).show(status, classes);
  }
  $("sources").classList.toggle("several", list.length > 1);
  $("sources").style.setProperty("--rows", Math.ceil(list.length / 2));
}

// The controls: they show what is in force, and what is wanted until that is confirmed ------------

const slider = $("threshold");
const inForce = { threshold: null, classes: [] };
let wanted = null; // what has to be sent next
let sending = false;
let confirmedAt = 0;

function showControls() {
  const next = { ...inForce, ...wanted };
  slider.value = next.threshold;
  slider.style.setProperty("--value", next.threshold);
  slider.disabled = false;
  setText($("threshold-value"), next.threshold.toFixed(2));
  for (const button of $("classes").children) {
    const on = inForce.classes.includes(button.value);
    button.setAttribute("aria-pressed", on);
    setText(button.querySelector(".is"), on ? "shown" : "hidden");
  }
}

function showAnswer(state, text) {
  $("answer").dataset.state = state;
  setText($("answer"), text);
}

function showInForce() {
  const classes = inForce.classes.join(", ") || "no class, so nothing is marked";
  showAnswer("set", `In force: ${inForce.threshold.toFixed(2)}, ${classes}`);
}

function takeControls(answer) {
  inForce.threshold = answer.threshold;
  inForce.classes = answer.classes;
  showControls();
}

function showClasses(classes) {
  if ($("classes").children.length) return;
  for (const { name, colour } of classes) {
    const button = document.createElement("button");
    button.type = "button";
    button.value = name;
    button.style.setProperty("--colour", colour);
    for (const part of ["name", "is"]) {
      button.append(Object.assign(document.createElement("span"), { className: part }));
    }
    button.firstElementChild.textContent = name;
    button.addEventListener("click", () => toggle(name));
    $("classes").append(button);
  }
}

function toggle(name) {
  const chosen = new Set(wanted?.classes ?? inForce.classes);
  if (!chosen.delete(name)) chosen.add(name);
  want({ classes: [...chosen] });
}

function want(change) {
  if (inForce.threshold === null) return;
  wanted = { ...wanted, ...change };
  showControls();
  showAnswer("waiting", "Setting …");
  if (!sending) send();
}

async function send() {
  sending = true;
  while (wanted) {
    // While this is under way a finger moves on; only the newest value is sent after it.
    const change = wanted;
    wanted = null;
    try {
      const answer = await ask("/controls", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(change),
      });
      if (!answer.ok) throw new Error(await answer.text());
      takeControls(await answer.json());
      confirmedAt = performance.now();
      if (!wanted) showInForce();
    } catch (error) {
      wanted = null;
      showControls();
      showAnswer("failed", `Not set: ${error.message}`);
    }
  }
  sending = false;
}

slider.addEventListener("input", () => want({ threshold: Number(slider.value) }));
for (const button of document.querySelectorAll("[data-step]")) {
  button.addEventListener("click", () => {
    const moved = Number(slider.value) + Number(button.dataset.step);
    want({ threshold: Math.round(Math.min(Math.max(moved, 0), 1) * 100) / 100 });
  });
}

// The status, and whether the program is there ----------------------------------------------------

let lostAt = null;

function showLink(lost) {
  lostAt = lost ? (lostAt ?? Date.now()) : null;
  document.body.classList.toggle("lost", lost);
  $("lost").hidden = !lost;
  $("link").dataset.state = lost ? "lost" : "connected";
  setText($("link"), lost ? "Lost" : "Live");
  if (lost) setText($("lost-for"), duration((Date.now() - lostAt) / 1000));
}

async function follow() {
  for (;;) {
    await visible();
    const askedAt = performance.now();
    try {
      const answer = await ask("/status");
      if (!answer.ok) throw new Error(answer.statusText);
      const status = await answer.json();
      setText($("model"), `${status.model} · ${status.backend}`);
      setText($("uptime"), `running ${duration(status.uptime_s)}`);
      showClasses(status.known_classes);
      showSources(status.sources, status.known_classes);
      // An answer from before the last change would move the slider back.
      if (!wanted && !sending && askedAt > confirmedAt) {
        const first = inForce.threshold === null;
        takeControls(status);
        if (first) showInForce();
      }
      showLink(false);
    } catch {
      showLink(true);
    }
    await sleep(STATUS_MS);
  }
}

follow();
