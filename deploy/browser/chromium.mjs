// What the scripts here share: a browser that minds what a page may not do.
import { createRequire } from "node:module";
import readline from "node:readline";

const { chromium } = createRequire(process.env.KAGE_NODE_MODULES + "/")("playwright-core");

// open gives a page and the list of everything that went wrong in it.
export async function open(options = {}) {
  const browser = await chromium.launch({
    executablePath: process.env.KAGE_CHROMIUM,
    args: process.getuid?.() === 0 ? ["--no-sandbox"] : [],
  });
  const page = await browser.newPage({ viewport: { width: 1440, height: 900 }, ...options });
  const wrong = [];
  page.on("pageerror", (e) => wrong.push("script: " + e.message));
  page.on("console", (m) => {
    // A route that this node does not have, or a node that is away, is no fault of the page.
    if (m.type() === "error" && !/Failed to load resource/.test(m.text())) wrong.push("console: " + m.text());
  });
  return { browser, page, wrong };
}

const input = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();

// ask has the test do something to the mesh, and waits until it is done.
export async function ask(what) {
  console.log(what);
  const { done } = await input.next();
  if (done) throw new Error("the test has gone");
}

export function expect(what, ok) {
  if (!ok) throw new Error("expected: " + what);
}
