// scenes.mjs DIRECTORY NAME=URL ...: pictures of the page in several states and
// widths. What the names mean: scene, "phone" and "dark".
import path from "node:path";
import { expect, open } from "./chromium.mjs";

const [directory, ...scenes] = process.argv.slice(2);
for (const scene of scenes) {
  const [name, url] = scene.split("=");
  const phone = name.includes("phone");
  const { browser, page, wrong } = await open({
    viewport: phone ? { width: 390, height: 844 } : { width: 1440, height: 900 },
    colorScheme: name.includes("dark") ? "dark" : "light",
    reducedMotion: "reduce",
  });
  try {
    await page.goto(url + "/mesh/");
    await page.locator(".card").first().waitFor();
    await page.locator(".plot canvas").nth(2).waitFor();
    await page.locator(".requests tbody tr").first().waitFor();
    await page.evaluate(() => document.fonts.ready);
    if (name === "four" || name === "four-phone") {
      await page.getByRole("img", { name: "llama3.2:3b on cpu-1: not there" }).click();
      await page.locator(".orders button.act:enabled").waitFor();
    }
    const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    expect(`${name}: nothing wider than the window, it is by ${over} px`, over <= 0);
    const cards = await page.locator(".card").count();
    expect(`${name}: ${name.startsWith("fifty") ? 50 : 4} cards, got ${cards}`, cards === (name.startsWith("fifty") ? 50 : 4));
    expect(`${name}: no errors, got ${wrong.join("; ")}`, wrong.length === 0);
    await page.screenshot({ path: path.join(directory, name + ".png"), fullPage: true });
  } finally {
    await browser.close();
  }
}
console.log("done");
