// A SCIM server on SCIMMY, in memory. Prints the address it listens on.
import crypto from "node:crypto";
import express from "express";
import SCIMMY from "scimmy";
import SCIMMYRouters from "scimmy-routers";

const users = new Map();
const groups = new Map();
const missing = (id) => new SCIMMY.Types.Error(404, null, `Resource ${id} not found`);
const conflict = () => new SCIMMY.Types.Error(409, "uniqueness", "userName is taken");

function keep(rows, unique) {
  return {
    ingress: async (resource, data) => {
      if (resource.id && !rows.has(resource.id)) throw missing(resource.id);
      const id = resource.id ?? crypto.randomUUID();
      const value = JSON.parse(JSON.stringify(data));
      if (unique) {
        for (const [other, row] of rows) {
          if (other !== id && row[unique]?.toLowerCase() === value[unique]?.toLowerCase()) throw conflict();
        }
      }
      const now = new Date();
      const row = { ...value, id, meta: { created: rows.get(id)?.meta.created ?? now, lastModified: now } };
      rows.set(id, row);
      return row;
    },
    egress: async (resource) => {
      if (resource.id) {
        if (!rows.has(resource.id)) throw missing(resource.id);
        return rows.get(resource.id);
      }
      const all = [...rows.values()];
      return resource.filter ? resource.filter.match(all) : all;
    },
    degress: async (resource) => {
      if (!rows.delete(resource.id)) throw missing(resource.id);
      for (const group of groups.values()) {
        group.members = (group.members ?? []).filter((member) => member.value !== resource.id);
      }
    },
  };
}

for (const [type, rows, unique] of [
  [SCIMMY.Resources.User, users, "userName"],
  [SCIMMY.Resources.Group, groups, undefined],
]) {
  const { ingress, egress, degress } = keep(rows, unique);
  SCIMMY.Resources.declare(type).ingress(ingress).egress(egress).degress(degress);
}
// Small enough for a test to meet both limits.
SCIMMY.Config.set("bulk", { supported: true, maxOperations: 20, maxPayloadSize: 8192 });
SCIMMY.Resources.User.extend(SCIMMY.Schemas.EnterpriseUser, false);

const app = express();
// Express hands query values over as text, and SCIMMY pages by numbers.
app.set("query parser", (text) => {
  const query = Object.fromEntries(new URLSearchParams(text));
  for (const name of ["startIndex", "count"]) if (name in query) query[name] = Number(query[name]);
  return query;
});
app.use(
  "/scim/v2",
  new SCIMMYRouters({
    type: "bearer",
    handler: (request) => {
      if (request.header("Authorization") !== `Bearer ${process.env.JML_TEST_SERVER_TOKEN}`) throw new Error("no");
      return "tests";
    },
  }),
);
const listener = app.listen(0, "127.0.0.1", () => {
  console.log(`listening on http://127.0.0.1:${listener.address().port}`);
});
