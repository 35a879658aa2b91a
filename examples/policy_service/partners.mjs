// Refuse mail from clients without a valid certificate: a decider in Node, with nothing but `ws` from npm.
//   npm install && node partners.mjs ws://127.0.0.1:8025/ token [shadow]
import { readFileSync } from "node:fs";
import WebSocket from "ws";

const [url, tokenFile, mode = "enforce"] = process.argv.slice(2);
const token = readFileSync(tokenFile, "utf8").trim();

function decide({ variables }) {
  if (variables.tls_client_verified === "yes") return { decision: "continue" };
  if (variables.tls !== "on") {
    return { decision: "reject", code: 530, enhanced: "5.7.0", text: "Must issue a STARTTLS command first" };
  }
  const text = `A valid client certificate is required: ${variables.tls_client_verify_error}`;
  return { decision: "reject", code: 550, enhanced: "5.7.1", text };
}

function connect(wait) {
  const socket = new WebSocket(url, "policy.v1.triosmtp", { headers: { Authorization: `Bearer ${token}` } });
  const send = (message) => socket.send(JSON.stringify({ jsonrpc: "2.0", ...message }));
  socket.on("open", () => {
    const params = { name: "partners-node", group: "partners", role: "decider", phases: ["mailfrom"], variables: ["tls*"], mode };
    send({ id: 1, method: "initialize", params: { ...params, notifications: ["session.tls"] } });
  });
  socket.on("message", (data) => {
    const message = JSON.parse(data);
    if (message.id === 1) {
      if (message.error) throw new Error(message.error.message);
      wait = 250;
      console.log("ready");
    } else if (message.method?.startsWith("validate_")) {
      send({ id: message.id, result: decide(message.params) });
    } else if (message.method === "session.tls") {
      const { session, variables } = message.params;
      console.log(session, variables.tls_protocol, variables.tls_client_verified, variables.tls_client_verify_error ?? "");
    }
  });
  socket.on("unexpected-response", (_request, response) => {
    console.error(`refused: ${response.statusCode}`);
    process.exit(1);
  });
  socket.on("error", (error) => console.error(error.message));
  socket.on("close", () => setTimeout(() => connect(Math.min(wait * 2, 30000)), Math.random() * wait));
}

connect(250);
