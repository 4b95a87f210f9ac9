// PM2: pm2 start config/ecosystem.config.cjs
//
// The secrets are taken from the shell that starts PM2 and never written here. PM2 keeps a copy of the environment of
// its processes, and `pm2 save` writes it to ~/.pm2/dump.pm2: keep that folder private (chmod 700 ~/.pm2), or start the
// bridge from systemd with an EnvironmentFile (ghost-bridge.service).
// After a change of the environment: pm2 restart config/ecosystem.config.cjs --update-env
const path = require("path");

const home = process.env.GHOST_BRIDGE_HOME || path.resolve(__dirname, "..");
const env = { CLOUD: process.env.CLOUD };
// A variable that is not set must stay so: PM2 would pass the word "undefined".
for (const name of [
  "GPT_BRIDGE_HMAC_SECRET",
  "GPT_BRIDGE_HMAC_SECRET_NEXT",
  "GPT_BRIDGE_HMAC_ROTATION_ENDS",
  "GHOST_BRIDGE_CONFIG",
  "RUST_LOG",
]) {
  if (process.env[name]) env[name] = process.env[name];
}
for (const name of ["CLOUD", "GPT_BRIDGE_HMAC_SECRET"]) {
  if (!process.env[name]) throw new Error(`set ${name} before you start PM2`);
}

module.exports = {
  apps: [
    {
      name: "ghost-bridge",
      script: path.join(home, "target/release/ghost-bridge"),
      args: "run --log-format json",
      interpreter: "none",
      cwd: home,
      env,
      // One instance, ever: a second one ends with status 75.
      exec_mode: "fork",
      instances: 1,
      // SIGINT, then time to finish and publish what is in flight (10 s at most) before SIGKILL.
      kill_timeout: 12000,
      // A wrong command line or configuration does not mend itself: no restart.
      stop_exit_codes: [0, 64, 78],
      exp_backoff_restart_delay: 200,
      merge_logs: true,
      time: false,
    },
  ],
};
