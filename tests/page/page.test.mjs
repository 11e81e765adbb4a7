// Opens the pages in a browser, on a phone and on a wide screen: they show every route, a request can be tried, and
// nothing is asked of another host. Screenshots go to target/page.
//
//   node --test tests/page        with playwright-core in target/page, as tests/run.sh puts it there

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";

const root = resolve(import.meta.dirname, "../..");
const work = join(root, "target/page");
const { chromium } = createRequire(`${work}/`)("playwright-core");
const program = process.env.ONNXD ?? join(root, "target/release/onnxd");

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

const SCREENS = {
  phone: { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true, colorScheme: "dark" },
  wide: { viewport: { width: 1280, height: 900 }, colorScheme: "light" },
};

let server, origin, browser, profile;

before(async () => {
  server = spawn(program, ["serve", "--address", "127.0.0.1", "--port", "0", "--models", join(root, "models")], {
    env: { ...process.env, ONNXD_LOG__FORMAT: "json", ONNXD_SERVER__GRPC_PORT: "0" },
    stdio: ["ignore", "pipe", "pipe"],
  });
  for (const stream of [server.stdout, server.stderr]) {
    createInterface({ input: stream }).on("line", (line) => {
      const address = /"listening".*?"address":"([^"]+)"|"address":"([^"]+)".*?"listening"/.exec(line);
      if (address) origin ??= `http://${address[1] ?? address[2]}`;
    });
  }
  for (let tries = 0; tries < 600; tries += 1) {
    const ready = origin && (await fetch(`${origin}/health/ready`).catch(() => null));
    if (ready?.ok) break;
    await new Promise((done) => setTimeout(done, 50));
  }
  assert.ok(origin, "the server tells its address");
  profile = mkdtempSync(join(tmpdir(), "onnxd-page-"));
  browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: FLAGS, env: { ...process.env, HOME: profile } });
});

after(async () => {
  await browser?.close();
  server?.kill("SIGINT");
  if (server) await once(server, "exit");
  if (profile) rmSync(profile, { recursive: true, force: true });
});

// A page that fails the test if it asks another host or complains.
async function visit(screen, path, look) {
  const context = await browser.newContext(SCREENS[screen]);
  const page = await context.newPage();
  const complaints = [];
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("request", (request) => {
    if (!request.url().startsWith(`${origin}/`) && !request.url().startsWith("data:")) complaints.push(request.url());
  });
  await page.goto(origin + path);
  await look(page);
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.equal(overflow, 0, "nothing sticks out on the right");
  assert.deepEqual(complaints, []);
  await context.close();
}

const shot = (page, name) => page.screenshot({ path: join(work, `${name}.png`) });

for (const screen of Object.keys(SCREENS)) {
  test(`the start page leads to the models' routes, ${screen}`, () =>
    visit(screen, "/", async (page) => {
      await shot(page, `home-${screen}`);
      await page.getByRole("link", { name: "iris", exact: true }).first().click();
      await page.getByRole("heading", { name: "Model iris" }).waitFor();
      assert.equal(new URL(page.url()).pathname, "/docs");
    }));

  test(`every route is there, ${screen}`, () =>
    visit(screen, "/docs", async (page) => {
      const document = await (await fetch(`${origin}/openapi.json`)).json();
      const expected = Object.entries(document.paths).flatMap(([path, item]) =>
        Object.keys(item).map((method) => `${method.toUpperCase()} ${path}`),
      );
      await page.locator(".operation").first().waitFor();
      await shot(page, `docs-${screen}`);
      const shown = await page.locator(".operation").evaluateAll((found) =>
        found.map((one) => `${one.querySelector(".method").textContent} ${one.querySelector(".path").textContent}`),
      );
      assert.deepEqual(shown.toSorted(), expected.toSorted());
      await page.getByLabel("Find a route").fill("iris infer");
      assert.equal(await page.locator(".operation:visible").count(), 1);
    }));

  test(`a request can be tried, ${screen}`, () =>
    visit(screen, "/docs#predict_iris", async (page) => {
      const route = page.locator("#predict_iris");
      await route.getByRole("button", { name: "Send" }).waitFor();
      await route.getByLabel("Body").fill('{"instances": [[5.1, 3.5, 1.4, 0.2]]}');
      await route.getByRole("button", { name: "Send" }).click();
      await route.getByText("200").first().waitFor();
      assert.match(await route.locator(".answer pre").textContent(), /"label_name": "setosa"/);
      await shot(page, `try-${screen}`);
    }));
}
