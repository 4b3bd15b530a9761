/** `npm run demo`: on a file, or, with `--sql` or `--redis`, on servers (server.mjs). */
const onServers = process.argv.some((word) => /^--(sql|redis)\b/.test(word));
await import(onServers ? './server.mjs' : './demo.mjs');
