// PM2: pm2 start config/ecosystem.config.cjs
//
// The secrets are taken from the shell that starts PM2 and never written here. PM2 keeps a copy of the environment of
// its processes, and `pm2 save` writes it to ~/.pm2/dump.pm2: keep that folder private (chmod 700 ~/.pm2), or start the
// bridge from systemd with an EnvironmentFile (ghost-bridge.service).
// After a change of the environment: pm2 restart config/ecosystem.config.cjs --update-env
//
// Each CLOUD has an app of its own, whose name follows from CLOUD (GHOST_BRIDGE_APP names it otherwise). All are in PM2's
// namespace ghost-bridge, so that `pm2 logs ghost-bridge` and `pm2 stop ghost-bridge` mean all of them.
const crypto = require("crypto");
const fs = require("fs");
const path = require("path");

const home = process.env.GHOST_BRIDGE_HOME || path.resolve(__dirname, "..");
for (const name of ["CLOUD", "GPT_BRIDGE_HMAC_SECRET"]) {
  if (!process.env[name]) throw new Error(`set ${name} before you start PM2`);
}

// The bridge runs in another folder than this shell: a relative path would mean another one there.
let cloud = path.resolve(process.env.CLOUD);
try {
  cloud = fs.realpathSync(cloud);
} catch {
  // The bridge says what is wrong with it.
}
const digest = crypto.createHash("sha256").update(cloud).digest("hex").slice(0, 6);
const folder = path.basename(cloud).replace(/[^A-Za-z0-9_.]+/g, "-");
const app = process.env.GHOST_BRIDGE_APP || `ghost-bridge-${folder}-${digest}`;

const env = { CLOUD: cloud };
for (const name of [
  "GPT_BRIDGE_HMAC_SECRET",
  "GPT_BRIDGE_HMAC_SECRET_NEXT",
  "GPT_BRIDGE_HMAC_ROTATION_ENDS",
  "GHOST_BRIDGE_CONFIG",
  "RUST_LOG",
]) {
  // Empty counts as not set. It is said all the same: PM2 keeps the old value of a variable that is left out, and a
  // rotation would not end.
  env[name] = process.env[name] || "";
}
if (env.GHOST_BRIDGE_CONFIG) env.GHOST_BRIDGE_CONFIG = path.resolve(env.GHOST_BRIDGE_CONFIG);
// The same for overrides of single keys, whose names nobody knows beforehand: the bridge takes those that are listed.
const overrides = Object.keys(process.env).filter((name) => name.startsWith("GHOST_BRIDGE__") && process.env[name]);
for (const name of overrides) env[name] = process.env[name];
env.GHOST_BRIDGE_OVERRIDES = overrides.sort().join(" ") || "none";

module.exports = {
  apps: [
    {
      name: app,
      namespace: "ghost-bridge",
      script: path.join(home, "target/release/ghost-bridge"),
      args: "run --log-format json",
      interpreter: "none",
      cwd: home,
      env,
      // One instance, ever: a second one ends with status 75.
      exec_mode: "fork",
      instances: 1,
      // Online when the bridge says so on PM2's channel: the actors run, and what the last run left is committed. After
      // listen_timeout PM2 calls it online unasked; the bridge goes on getting ready.
      wait_ready: true,
      listen_timeout: 60000,
      // SIGINT, then time to finish and publish what is in flight (10 s at most) before SIGKILL. To the bridge alone: it
      // ends its own children, and a push that is under way is part of what is finished.
      kill_timeout: 12000,
      treekill: false,
      // A wrong command line or configuration does not mend itself: no restart. 0 must not stand here, because PM2 takes
      // an end by kill -9, or for want of memory, for 0.
      stop_exit_codes: [64, 78],
      // 0.2 s, then half as long again each time, up to 15 s.
      exp_backoff_restart_delay: 200,
      // Memory stays bounded whatever lies in commands/; this is far beyond it.
      max_memory_restart: "1G",
      // PM2 is to look for no version control in the bridge's folder.
      vizion: false,
      merge_logs: true,
      time: false,
    },
  ],
};
