// Runs npm's oidc-provider as an authorization server for the tests.
//
//   node server.mjs FOLDER PORT
//
// FOLDER is where packaging/test installed it. It says `ready PORT` when it
// answers, and ends when its standard input does. A login is a form that takes
// any name. Whether an access token is opaque or a JWT (RFC 9068), and how long
// it lives, the resource says: https://any.example/?token=jwt&alg=ES256&seconds=2
// has the audience https://any.example/. What is under /_test/ is the tests' own.

import * as crypto from 'node:crypto';
import * as http from 'node:http';
import { createRequire } from 'node:module';
import * as path from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';

// Nobody reads more of our standard output than the one line.
console.info = console.error;

const [folder, wanted] = process.argv.slice(2);
const installed = createRequire(`${path.resolve(folder)}/`);
const load = (name) => import(pathToFileURL(installed.resolve(name)));
const { Provider } = await load('oidc-provider');
const { importJWK, SignJWT } = await load('jose');

const GROUPS = { alice: ['beamline-7', 'operators'], bob: ['beamline-7'] };
const SCOPES = 'scistream scistream:operate other';

// What is known of a person, in tokens as in userinfo.
const person = (sub) => ({
  email: sub.includes('@') ? sub : `${sub}@facility.example`,
  email_verified: true,
  groups: GROUPS[sub] ?? [],
  preferred_username: sub,
});

// All that the server remembers. It outlasts a change of keys.
const kept = new Map();
class Adapter {
  constructor(model) {
    this.model = model;
  }

  key(id) {
    return `${this.model}:${id}`;
  }

  async upsert(id, payload) {
    kept.set(this.key(id), payload);
  }

  async find(id) {
    return kept.get(this.key(id));
  }

  async findBy(name, value) {
    return [...kept].find(([key, payload]) => key.startsWith(`${this.model}:`) && payload[name] === value)?.[1];
  }

  async findByUid(uid) {
    return this.findBy('uid', uid);
  }

  async findByUserCode(code) {
    return this.findBy('userCode', code);
  }

  async consume(id) {
    kept.get(this.key(id)).consumed = Math.floor(Date.now() / 1000);
  }

  async destroy(id) {
    kept.delete(this.key(id));
  }

  async revokeByGrantId(grantId) {
    for (const [key, payload] of kept) if (payload.grantId === grantId) kept.delete(key);
  }
}

const generate = promisify(crypto.generateKeyPair);
async function newKeys() {
  const kinds = [['rsa', { modulusLength: 2048 }, 'RS256'], ['ec', { namedCurve: 'P-256' }, 'ES256']];
  return Promise.all(kinds.map(async ([type, options, alg]) => {
    const { privateKey } = await generate(type, options);
    return { ...privateKey.export({ format: 'jwk' }), kid: crypto.randomUUID(), use: 'sig', alg };
  }));
}

const server = http.createServer();
await new Promise((ready) => server.listen(Number(wanted), '127.0.0.1', ready));
const { port } = server.address();
const issuer = `http://127.0.0.1:${port}`;

let deviceSeconds = 600;
const lifetime = (_, token) => token.resourceServer?.accessTokenTTL ?? 3600;

// No answer is forced by the tests: only who may ask, for what, and for how long it holds.
const configuration = {
  adapter: Adapter,
  claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['preferred_username'], groups: ['groups'] },
  clients: [
    {
      client_id: 's2uc', application_type: 'native', token_endpoint_auth_method: 'none',
      grant_types: ['authorization_code', 'refresh_token', 'urn:ietf:params:oauth:grant-type:device_code'],
      response_types: ['code'], redirect_uris: ['http://127.0.0.1/', `${issuer}/_test/paste`],
    },
    {
      client_id: 'gateway', client_secret: 'the-secret-of-the-gateway',
      grant_types: [], response_types: [], redirect_uris: [],
    },
    {
      client_id: 'tests', client_secret: 'the-secret-of-the-tests', application_type: 'native',
      grant_types: ['authorization_code', 'refresh_token', 'client_credentials'],
      response_types: ['code'], redirect_uris: ['http://127.0.0.1/'],
    },
  ],
  cookies: { keys: [crypto.randomUUID()] },
  enableHttpPostMethods: false,
  extraTokenClaims: (_, token) => (token.accountId ? person(token.accountId) : undefined),
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    deviceFlow: { enabled: true },
    introspection: {
      enabled: true,
      // As a resource server may: it sees everybody's tokens, others their own.
      allowedPolicy: (_, client, token) => client.clientId === 'gateway' || token.clientId === client.clientId,
    },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo(_, resource) {
        const url = new URL(resource);
        const asked = new URLSearchParams(url.search);
        url.search = '';
        return {
          audience: url.href,
          scope: SCOPES,
          accessTokenFormat: asked.get('token') === 'jwt' ? 'jwt' : 'opaque',
          accessTokenTTL: Number(asked.get('seconds') ?? 3600),
          jwt: { sign: { alg: asked.get('alg') ?? 'RS256' } },
        };
      },
    },
    revocation: { enabled: true },
    rpInitiatedLogout: { enabled: false },
  },
  findAccount: (_, sub) => ({ accountId: sub, claims: () => ({ sub, ...person(sub) }) }),
  interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
  scopes: ['openid', 'offline_access', ...SCOPES.split(' ')],
  ttl: {
    AccessToken: lifetime, ClientCredentials: lifetime, AuthorizationCode: 60, DeviceCode: () => deviceSeconds,
    Grant: 86400, IdToken: 3600, Interaction: 600, RefreshToken: 86400, Session: 3600,
  },
};

let keys = await newKeys();
let provider;
let answer;
let slowness = 0;
let calls = {};
function serve() {
  provider = new Provider(issuer, { ...configuration, jwks: { keys } });
  answer = provider.callback();
}
serve();

async function text(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  return Buffer.concat(parts).toString();
}

const reply = (response, status, type, body) => response.writeHead(status, { 'content-type': type }).end(body);

// The page on which a person logs in and consents.
async function interact(request, response) {
  const { prompt, params, uid } = await provider.interactionDetails(request, response);
  if (request.method === 'GET') {
    return reply(response, 200, 'text/html', `<form method="post" action="/interaction/${uid}">
      <p>${prompt.name} for ${encodeURIComponent(params.client_id)}</p><input type="text" name="login" value=""/>
      <button name="deny" value="yes">Deny</button></form>`);
  }
  const form = new URLSearchParams(await text(request));
  const accountId = form.get('login');
  if (form.get('deny') === 'yes') {
    return provider.interactionFinished(request, response, {
      error: 'access_denied', error_description: 'the person said no',
    });
  }
  if (prompt.name === 'login') {
    return provider.interactionFinished(request, response, { login: { accountId } });
  }
  const grant = new provider.Grant({ accountId, clientId: params.client_id });
  grant.addOIDCScope(params.scope);
  for (const resource of [params.resource ?? []].flat()) grant.addResourceScope(resource, params.scope);
  return provider.interactionFinished(request, response, { consent: { grantId: await grant.save() } });
}

// What the tests ask of their server beyond the standards.
const ours = {
  // New keys sign; the old ones are still told, or not.
  async rotate({ keep }) {
    keys = [...await newKeys(), ...(keep ? keys : [])];
    serve();
    return {};
  },
  // How often each path was asked for.
  calls: () => calls,
  // Every answer from now on takes so many milliseconds longer.
  slow({ milliseconds }) {
    slowness = milliseconds;
    return {};
  },
  // How long a device's code holds that is given from now on.
  devices({ seconds }) {
    deviceSeconds = seconds;
    return {};
  },
  // Signs any claims under any header, as this server.
  async sign({ header, claims }) {
    const key = keys.find((one) => one.alg === (header.alg ?? 'RS256'));
    const jwt = new SignJWT(claims).setProtectedHeader({ alg: key.alg, kid: key.kid, ...header });
    return { token: await jwt.sign(await importJWK(key, key.alg)) };
  },
};

server.on('request', async (request, response) => {
  const { pathname, searchParams } = new URL(request.url, issuer);
  try {
    if (pathname === '/_test/paste') {
      return reply(response, 200, 'text/html', `Copy this code: <code>${encodeURIComponent(searchParams.get('code'))}</code>`);
    }
    if (pathname.startsWith('/_test/')) {
      const asked = await text(request);
      const told = await ours[pathname.slice('/_test/'.length)](asked ? JSON.parse(asked) : {});
      return reply(response, 200, 'application/json', JSON.stringify(told));
    }
    calls[pathname] = (calls[pathname] ?? 0) + 1;
    if (slowness) await new Promise((done) => setTimeout(done, slowness));
    if (pathname.startsWith('/interaction/')) return await interact(request, response);
    return answer(request, response);
  } catch (e) {
    console.error(e);
    return reply(response, 500, 'text/plain', String(e));
  }
});

process.stdin.on('end', () => process.exit(0)).resume();
console.log(`ready ${port}`);
