// A websocket as stdin and stdout, a frame on each line: what `websocat` does, for whoever does not have it.
//   node lines.mjs ws://127.0.0.1:8025/ token
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import WebSocket from "ws";

const [url, tokenFile] = process.argv.slice(2);
const headers = { Authorization: `Bearer ${readFileSync(tokenFile, "utf8").trim()}` };
const socket = new WebSocket(url, "policy.v1.triosmtp", { headers });
socket.on("open", () => createInterface({ input: process.stdin }).on("line", (line) => socket.send(line)));
socket.on("message", (data) => console.log(String(data)));
socket.on("error", (error) => console.error(error.message));
socket.on("close", () => process.exit(1));
