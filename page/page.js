// The form: takes a text, has it judged by the worker, shows the answer. What it shows is made in answer.js and text.js.

import { showAnswers } from "./answer.js";
import { Annotated } from "./text.js";

// A textarea takes seconds to lay out more than this: larger texts are held beside it.
const MOST_SHOWN = 200_000;

const by = (id) => document.getElementById(id);
const text = by("text");
const annotated = new Annotated(by("lines"), by("detail"), by("next-bad"));
let held = null; // {name, bytes}: a file, or a paste too large for the textarea
let asked = 0; // the number of the last question; answers to earlier ones are of no use any more

function say(sentence, state) {
  by("status").textContent = sentence;
  document.documentElement.dataset.state = state;
}

function startWorker() {
  // A worker from an address has no policy but the one that its server sends, and a static page's server sends none. One from a blob: has the page's.
  const address = JSON.stringify(new URL("worker.js", document.baseURI).href);
  const waits = "const early = []; const keep = (event) => early.push(event); addEventListener('message', keep);";
  const code = `${waits} await import(${address}); removeEventListener('message', keep); early.forEach((event) => self.onmessage(event));`;
  const blob = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
  const started = new Worker(blob, { type: "module" });
  started.onmessage = ({ data }) => heard(data);
  started.onerror = (event) => cannotStart(event.message || "the worker did not start");
  return started;
}

function cannotStart(why) {
  const local = location.protocol === "file:";
  say(
    local
      ? "A page from a file may not load Python. Serve its folder: python3 -m http.server --bind 127.0.0.1, and open http://127.0.0.1:8000/"
      : `Python could not be started here: ${why}. It needs a browser of 2024 or newer, with WebAssembly allowed.`,
    "failed",
  );
}

function heard({ id, processors, answer, failed }) {
  if (id === 0) {
    if (failed) return cannotStart(failed);
    offer(processors);
    if (!asked) say("", "ready");
    return;
  }
  if (id !== asked) return;
  if (failed || answer.error) {
    by("result").hidden = true;
    annotated.close();
    say(failed ? `vmfuzz failed on this text, which is a mistake of vmfuzz: ${failed}` : answer.error, "answered");
    return;
  }
  by("result").hidden = false;
  showAnswers(by("answers"), answer, (line) => annotated.goTo(line));
  by("annotated").hidden = !annotated.show(answer.lines, answer.states > 1);
  say("", "answered");
  by("answers").querySelector("h2").focus();
}

function offer({ version, processors, emulated }) {
  by("version").textContent = ` ${version}`;
  for (const [label, options] of [["Processors", processors], ["Models of the emulator Bochs", emulated]]) {
    const group = document.createElement("optgroup");
    group.label = label;
    group.append(...options.map(([name, title]) => new Option(title, name)));
    by("processor").append(group);
  }
}

function check() {
  const bytes = held ? held.bytes.slice(0) : new TextEncoder().encode(text.value).buffer;
  if (!bytes.byteLength) {
    text.focus();
    return say("Paste a text first, or open a file.", document.documentElement.dataset.state);
  }
  asked += 1;
  say(document.documentElement.dataset.state === "starting" ? "Python is starting; the answer follows." : "Reading…", "working");
  worker.postMessage({ id: asked, bytes, cpu: by("processor").value }, [bytes]);
}

function hold(name, bytes) {
  const shown = bytes.byteLength <= MOST_SHOWN ? decoded(bytes) : null;
  if (shown !== null) {
    release();
    text.value = shown;
    text.scrollTop = 0;
  } else {
    held = { name, bytes };
    text.value = "";
    text.hidden = true;
    by("held").hidden = false;
    by("held-name").textContent = `${name}, ${(bytes.byteLength / 1e6).toFixed(1)} MB`;
  }
  check();
}

// A text as the textarea can hold it; null for one of another encoding, and for what is no text: those are judged as the bytes that they are.
function decoded(bytes) {
  try {
    const found = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    return found.includes("\0") ? null : found;
  } catch {
    return null;
  }
}

function release() {
  held = null;
  text.hidden = false;
  by("held").hidden = true;
}

async function take(file) {
  hold(file.name, await file.arrayBuffer());
}

by("form").addEventListener("submit", (event) => {
  event.preventDefault();
  check();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) check();
});
text.addEventListener("paste", (event) => {
  const pasted = event.clipboardData.getData("text/plain");
  if (pasted.length > MOST_SHOWN) {
    event.preventDefault();
    hold("pasted text", new TextEncoder().encode(pasted).buffer);
  } else if (!text.value.trim()) {
    setTimeout(check); // when it stands in the textarea
  }
});
by("processor").addEventListener("change", () => asked && check());
by("release").addEventListener("click", () => {
  release();
  text.focus();
});
by("open").addEventListener("click", () => by("file").click());
by("file").addEventListener("change", () => by("file").files[0] && take(by("file").files[0]));
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  if (event.dataTransfer.files[0]) take(event.dataTransfer.files[0]);
});
for (const button of document.querySelectorAll("[data-example]")) {
  button.addEventListener("click", async () => {
    try {
      const found = await fetch(`examples/${button.dataset.example}`);
      hold(button.dataset.example, await found.arrayBuffer());
    } catch (error) {
      say(`The example could not be loaded: ${error}`, document.documentElement.dataset.state);
    }
  });
}

say("Python is starting…", "starting");
const worker = startWorker();
