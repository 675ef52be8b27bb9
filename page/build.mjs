// Builds the page into a folder: node build.mjs FOLDER. What it needs is in node_modules (npm ci); `make page` does both.
//
// vmfuzz's modules are compiled by the Python that will run them, Pyodide's, so that the page starts a second sooner.

import { copyFile, mkdir, readFile, readdir, rm, stat, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { loadPyodide } from "pyodide";

const here = dirname(fileURLToPath(import.meta.url));
const pyodide = dirname(createRequire(import.meta.url).resolve("pyodide/package.json"));
const FILES = ["index.html", "page.css", "page.js", "answer.js", "text.js", "worker.js", "icon.svg"];
const PYODIDE = ["pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm", "python_stdlib.zip", "pyodide-lock.json"];
// of src/vmfuzz: what reading and judging need
const PACKAGES = ["arch", "explain", "model", "state"];
const MODULES = ["__init__.py", "counted.py", "errors.py", "files.py", "hexadecimal.py", "patterns.py"];
const EXAMPLES = ["kvm.txt", "xen.txt", "wrong-encoding.txt"];

const folder = process.argv[2];
if (!folder) {
  console.error("usage: node build.mjs FOLDER");
  process.exit(2);
}
const target = resolve(folder);

// before Node.js 20.12 it has another name
const folderOf = (entry) => entry.parentPath ?? entry.path;

async function sources(from) {
  const found = [];
  for (const entry of await readdir(from, { withFileTypes: true, recursive: true })) {
    if (entry.isFile() && /\.(py|json)$/.test(entry.name)) found.push(join(folderOf(entry), entry.name));
  }
  return found.sort();
}

const python = await loadPyodide({ indexURL: pyodide });
const root = join(here, "..", "src");
const files = MODULES.map((name) => join(root, "vmfuzz", name));
for (const name of PACKAGES) files.push(...(await sources(join(root, "vmfuzz", name))));
for (const file of files) {
  const place = `/build/${file.slice(root.length + 1)}`;
  python.FS.mkdirTree(dirname(place));
  python.FS.writeFile(place, await readFile(file));
}
const packed = python.runPython(`
import compileall, pathlib, zipfile
root = pathlib.Path("/build")
assert compileall.compile_dir(root, legacy=True, quiet=1, stripdir="/build", invalidation_mode=compileall.py_compile.PycInvalidationMode.UNCHECKED_HASH)
with zipfile.ZipFile("/vmfuzz.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
    for path in sorted(root.rglob("*")):
        if path.suffix in (".pyc", ".json"):
            archive.writestr(zipfile.ZipInfo(str(path.relative_to(root))), path.read_bytes(), zipfile.ZIP_DEFLATED)
pathlib.Path("/vmfuzz.zip").read_bytes()
`).toJs();

await rm(target, { recursive: true, force: true });
await mkdir(join(target, "pyodide"), { recursive: true });
await mkdir(join(target, "examples"));
await writeFile(join(target, "vmfuzz.zip"), packed);
for (const name of FILES) await copyFile(join(here, name), join(target, name));
for (const name of PYODIDE) await copyFile(join(pyodide, name), join(target, "pyodide", name));
for (const name of EXAMPLES) await copyFile(join(here, "..", "tests", "explain", "samples", name), join(target, "examples", name));

let size = 0;
for (const entry of await readdir(target, { withFileTypes: true, recursive: true })) {
  if (entry.isFile()) size += (await stat(join(folderOf(entry), entry.name))).size;
}
console.log(`${folder}: ${(size / 1e6).toFixed(1)} MB. To look at it: python3 -m http.server --bind 127.0.0.1 -d ${folder}`);
process.exit(0);
