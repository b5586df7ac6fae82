import type { ObjectSchema, Read } from './schema.js'
import { logLevelSetting } from './sentry-settings.js'

export const SIDECAR_PREFIX = 'COUNTERSIGN_SIDECAR'

export const sidecarSettings = {
  kind: 'object',
  description: 'Settings of countersign sidecar run',
  properties: {
    workload_api: {
      kind: 'text',
      format: 'endpoint',
      description: 'Address of the Workload API; SPIFFE_ENDPOINT_SOCKET unless set',
    },
    data_dir: {
      kind: 'text',
      format: 'path',
      description: 'Folder for the last good policy; without one a restart waits for the agent',
    },
    inbound: {
      kind: 'list',
      items: {
        kind: 'object',
        description: 'A listener that takes mTLS and forwards to the app',
        properties: {
          listen: { kind: 'text', format: 'address', description: 'Where callers connect' },
          app: { kind: 'text', description: 'The app: host:port on this machine, or unix:/path' },
          protocol: {
            kind: 'choice',
            values: ['http1', 'h2c', 'tcp'],
            default: 'http1',
            description: 'What the app speaks',
          },
          unsafe_app: {
            kind: 'boolean',
            default: false,
            description:
              'Lets the app be on another machine: what goes there is neither encrypted nor authenticated',
          },
        },
      },
      default: [],
      description: 'Listeners in front of the app',
    },
    outbound: {
      kind: 'list',
      items: {
        kind: 'object',
        description: 'A loopback listener for calls of the app',
        properties: {
          listen: {
            kind: 'text',
            format: 'address',
            description: 'Where the app connects; loopback only',
          },
          protocol: {
            kind: 'choice',
            values: ['http', 'tcp'],
            default: 'http',
            description: 'http finds the route by Host, tcp uses the only route',
          },
          unsafe_listen: {
            kind: 'boolean',
            default: false,
            description:
              'Lets other machines use the listener: whoever reaches it calls as this app',
          },
          routes: {
            kind: 'list',
            items: {
              kind: 'object',
              description: 'One destination',
              properties: {
                host: {
                  kind: 'text',
                  default: '*',
                  description: 'Host name of the request; * for any',
                },
                address: {
                  kind: 'text',
                  format: 'address',
                  description: 'The sidecar of the destination',
                },
                expect: {
                  kind: 'list',
                  items: { kind: 'text', format: 'spiffe-id', description: 'A SPIFFE ID' },
                  default: [],
                  description: 'SPIFFE IDs that the destination may have',
                },
                expect_trust_domain: {
                  kind: 'text',
                  format: 'trust-domain',
                  description:
                    'Trust domain any of whose IDs the destination may have; instead of expect',
                },
              },
            },
            default: [],
            description: 'Destinations',
          },
        },
      },
      default: [],
      description: 'Listeners for calls of the app',
    },
    admin_listen: {
      kind: 'text',
      format: 'address',
      default: '127.0.0.1:8084',
      description: 'Address of /livez, /readyz, /metrics and /status',
    },
    drain: {
      kind: 'duration',
      default: '30s',
      maximum: '1h',
      description: 'How long open requests may go on after the sidecar was told to stop',
    },
    ready_timeout: {
      kind: 'duration',
      default: '10m',
      description: 'How long to wait for the first SVID and policy',
    },
    access_log: {
      kind: 'choice',
      values: ['all', 'denied', 'off'],
      default: 'all',
      description: 'Which requests get a line on standard output',
    },
    log_level: logLevelSetting,
  },
} as const satisfies ObjectSchema

export type SidecarSettings = Read<typeof sidecarSettings>
