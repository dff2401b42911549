// live.mjs URL: a person with the page of a mesh of four open.
import { ask, expect, open } from "./chromium.mjs";

const url = process.argv[2];
const { browser, page, wrong } = await open();
const foreign = [];
page.on("request", (r) => {
  if (!r.url().startsWith(url)) foreign.push(r.url());
});
try {
  const answer = await page.goto(url + "/mesh");
  expect("a strict content security policy", /default-src 'self'/.test(answer.headers()["content-security-policy"]));
  const said = (text) => page.locator("h1", { hasText: text }).waitFor({ timeout: 20_000 });
  await said("All 4 nodes are up.");
  expect("four cards", (await page.locator(".card").count()) === 4);
  expect("a row per model", (await page.locator(".matrix tbody tr").count()) === 4);
  expect("four nodes in the picture", (await page.locator(".topology .node").count()) === 4);
  await page.locator(".plot canvas").nth(2).waitFor();

  await ask("work");
  await page.locator(".topology .edge.busy").first().waitFor({ timeout: 20_000 });
  await page.locator(".chip").first().waitFor({ timeout: 20_000 });

  const card = page.locator('.card[data-node="gpu-mobile"]');
  await card.locator("button").click();
  await page.locator(".hour .of", { hasText: "gpu-mobile" }).waitFor();
  expect("the chosen node in the matrix", (await page.locator(".matrix th.chosen").innerText()) === "gpu-mobile");
  await page.locator(".topology .node[aria-pressed=true]").focus();
  await page.keyboard.press("Enter"); // and by keyboard back
  await page.locator(".hour .of").waitFor({ state: "detached" });

  // Pull a model to a node that lacks it, load it there, unload it again.
  const cell = (model, node) => page.getByRole("img", { name: `${model} on ${node}` });
  const order = page.locator(".orders");
  await cell("qwen2.5:32b", "cpu-2").click();
  await order.locator("p", { hasText: "It does not fit there" }).waitFor();
  expect("no pull to where it cannot run", await order.locator("button.act").isDisabled());
  await cell("qwen2.5:32b", "cpu-1").click();
  await order.getByRole("button", { name: /^Pull 18\.5 GiB/ }).click();
  await order.locator("progress").waitFor();
  await cell("qwen2.5:32b", "cpu-1: on disk").waitFor({ timeout: 30_000 });
  await order.locator(".job", { hasText: "pulled" }).waitFor();
  await order.getByRole("button", { name: "Load into memory" }).click();
  await cell("qwen2.5:32b", "cpu-1: in memory").waitFor({ timeout: 30_000 });
  await order.locator(".job", { hasText: "loaded" }).waitFor();
  await order.getByRole("button", { name: "Unload" }).click();
  await cell("qwen2.5:32b", "cpu-1: on disk").waitFor({ timeout: 30_000 });
  await cell("private:1b", "cpu-1").click(); // in no registry
  await order.getByRole("button", { name: /^Pull/ }).click();
  await order.locator(".job.failed", { hasText: "file does not exist" }).waitFor();
  await order.getByRole("button", { name: "close" }).click();
  expect("the line is closed", (await order.count()) === 0);

  const start = Date.now();
  await ask("kill gpu-mobile");
  await page.locator('.card.dead[data-node="gpu-mobile"]').waitFor({ timeout: 30_000 });
  await said("3 of 4 nodes are up. gpu-mobile failed");
  expect("a cross in the picture", (await page.locator(".topology .node.dead .cross").count()) === 1);
  expect("a word, not only a colour", /failed/.test(await page.locator(".card.dead .word").innerText()));
  console.log(`note: a death was on the page after ${((Date.now() - start) / 1000).toFixed(1)} s`);

  await ask("restart gpu-mobile");
  await said("All 4 nodes are up.");

  await ask("kill cpu-1"); // the node whose page this is
  await page.locator(".page.stale").waitFor({ timeout: 20_000 });
  await page.locator(".live.off", { hasText: "no news for" }).waitFor();
  await ask("restart cpu-1");
  await page.locator(".live.on").waitFor({ timeout: 30_000 });
  await said("All 4 nodes are up.");

  expect("nothing from elsewhere, got " + foreign, foreign.length === 0);
  expect("no errors, got " + wrong.join("; "), wrong.length === 0);
  console.log("done");
} finally {
  await browser.close();
}
