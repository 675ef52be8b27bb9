// Runs Python in a thread of its own, so that the page answers while a text is judged. Takes {id, bytes, cpu}, gives {id, answer}.
// It is started from a blob: of the page (page.js), by which it stands under the page's Content-Security-Policy.

import { loadPyodide } from "./pyodide/pyodide.mjs";

const here = new URL(".", import.meta.url).href;

async function start() {
  const [python, packed] = await Promise.all([
    loadPyodide({ indexURL: `${here}pyodide/` }),
    fetch(`${here}vmfuzz.zip`).then((found) => {
      if (!found.ok) throw new Error(`vmfuzz.zip: ${found.status} ${found.statusText}`);
      return found.arrayBuffer();
    }),
  ]);
  python.unpackArchive(packed, "zip", { extractDir: "/vmfuzz" });
  return python.runPython(`
import json, sys
sys.path.insert(0, "/vmfuzz")
from vmfuzz.explain import page_data

def answered(data, cpu):
    return json.dumps(page_data.answered(data.to_bytes(), cpu))

answered, json.dumps(page_data.processors())
`);
}

const started = start();
started.then(
  ([, processors]) => self.postMessage({ id: 0, processors: JSON.parse(processors) }),
  (error) => self.postMessage({ id: 0, failed: String(error) }),
);

self.onmessage = async ({ data: { id, bytes, cpu } }) => {
  try {
    const [answered] = await started;
    self.postMessage({ id, answer: JSON.parse(answered(new Uint8Array(bytes), cpu)) });
  } catch (error) {
    self.postMessage({ id, failed: String(error) });
  }
};
