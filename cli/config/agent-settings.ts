import type { ObjectSchema, Read } from './schema.js'
import { logLevelSetting, sealSettings } from './sentry-settings.js'

export const AGENT_PREFIX = 'COUNTERSIGN_AGENT'

export const agentSettings = {
  kind: 'object',
  description: 'Settings of countersign agent run',
  properties: {
    trust_domain: {
      kind: 'text',
      format: 'trust-domain',
      example: 'prod.example',
      description: 'Name of the trust domain of the sentry',
    },
    sentry: {
      kind: 'list',
      items: { kind: 'text', format: 'address', description: 'A sentry, as host:port' },
      default: [],
      description: 'Addresses of sentries (or SPIRE servers); the first that answers is kept',
    },
    data_dir: {
      kind: 'text',
      format: 'path',
      default: '/var/lib/countersign/agent',
      description: 'Folder for the sealed state that outlives a restart',
    },
    trust_bundle: {
      kind: 'text',
      format: 'path',
      description:
        'Bundle for the first connection, PEM or SPIFFE JSON; later the stored one counts',
    },
    join_token: {
      kind: 'text',
      secret: true,
      description:
        'Join token for the first start; prefer join_token_file, which does not show in the process list',
    },
    join_token_file: { kind: 'text', format: 'path', description: 'File with the join token' },
    socket: {
      kind: 'text',
      format: 'path',
      default: '/run/countersign/agent/public/agent.sock',
      description:
        'Unix socket of the Workload API, open to every user; the kernel tells who calls',
    },
    sockets: {
      kind: 'list',
      items: {
        kind: 'object',
        description: 'A further socket of the Workload API',
        properties: {
          path: { kind: 'text', format: 'path', description: 'Where it is' },
          name: { kind: 'text', description: 'Callers on it carry the selector socket:<name>' },
          mode: { kind: 'text', default: '0600', description: 'Permissions, octal' },
        },
      },
      default: [],
      description:
        'Further sockets that add a selector to their callers; whoever may open one gets it',
    },
    admin_socket: {
      kind: 'text',
      format: 'path',
      description: 'Unix socket for status and explain; admin.sock in the data folder unless set',
    },
    admin_listen: {
      kind: 'text',
      format: 'address',
      default: '127.0.0.1:8083',
      description: 'Address of /livez, /readyz, /metrics and /status',
    },
    discover_workload_path: {
      kind: 'boolean',
      default: true,
      description: 'Whether callers carry the selectors unix:path and unix:sha256',
    },
    seal: sealSettings,
    log_level: logLevelSetting,
  },
} as const satisfies ObjectSchema

export type AgentSettings = Read<typeof agentSettings>
