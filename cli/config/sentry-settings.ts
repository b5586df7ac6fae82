import type { ObjectSchema, Read } from './schema.js'

export const SENTRY_PREFIX = 'COUNTERSIGN_SENTRY'

/** How the key is found that seals what lies on disk; shared by sentry and agent. */
export const sealSettings = {
  kind: 'object',
  description:
    'What seals the data on disk. Without any of these a key file is made in the data folder.',
  properties: {
    key_file: {
      kind: 'text',
      format: 'path',
      description: 'File with a key of 32 bytes, raw or base64, such as a mounted secret',
    },
    passphrase_file: {
      kind: 'text',
      format: 'path',
      description: 'File with a passphrase, the first line counts',
    },
    passphrase_variable: {
      kind: 'text',
      description: 'Name of an environment variable that holds a passphrase',
    },
  },
} as const satisfies ObjectSchema

export const logLevelSetting = {
  kind: 'choice',
  values: ['debug', 'info', 'warn', 'error', 'silent'],
  default: 'info',
  description: 'How much is logged, as JSON lines on standard error',
} as const

export const sentrySettings = {
  kind: 'object',
  description: 'Settings of countersign sentry run',
  properties: {
    trust_domain: {
      kind: 'text',
      format: 'trust-domain',
      example: 'prod.example',
      description: 'Name of the trust domain; it is part of every SPIFFE ID and never changes',
    },
    data_dir: {
      kind: 'text',
      format: 'path',
      default: '/var/lib/countersign/sentry',
      description: 'Folder for the sealed CA keys, the datastore and the audit log',
    },
    listen: {
      kind: 'text',
      format: 'address',
      default: '0.0.0.0:8081',
      description: 'Address for agents (gRPC on TLS)',
    },
    socket: {
      kind: 'text',
      format: 'path',
      description: 'Unix socket for administration; sentry.sock in the data folder unless set',
    },
    admin_listen: {
      kind: 'text',
      format: 'address',
      default: '127.0.0.1:8082',
      description: 'Address of /livez, /readyz, /metrics and /status',
    },
    dns_names: {
      kind: 'list',
      items: { kind: 'text', description: 'A DNS name or IP address' },
      default: [],
      description: 'DNS names and IP addresses in the certificate of the sentry',
    },
    seal: sealSettings,
    ttl: {
      kind: 'object',
      description: 'Lifetimes',
      properties: {
        root: {
          kind: 'duration',
          default: '365d',
          minimum: '1m',
          description: 'Of a root certificate',
        },
        issuer: {
          kind: 'duration',
          default: '7d',
          minimum: '30s',
          description: 'Of an issuer certificate',
        },
        x509_svid: {
          kind: 'duration',
          default: '1h',
          minimum: '5s',
          description: 'Of an X509-SVID whose entry names none',
        },
        jwt_svid: {
          kind: 'duration',
          default: '5m',
          minimum: '5s',
          description: 'Of a JWT-SVID whose entry names none',
        },
        agent: {
          kind: 'duration',
          default: '1h',
          minimum: '5s',
          description: "Of an agent's own SVID",
        },
        jwt_key: {
          kind: 'duration',
          default: '365d',
          minimum: '1m',
          description: 'Of a key that signs JWT-SVIDs',
        },
      },
    },
    jwt: {
      kind: 'object',
      description: 'JWT-SVIDs',
      properties: {
        issuer: { kind: 'text', description: 'The iss claim; absent unless set' },
        rs256_audiences: {
          kind: 'list',
          items: { kind: 'text', description: 'An audience' },
          description:
            'Audiences whose tokens are signed with RS256 instead of ES256; those of AWS and Azure unless set',
        },
      },
    },
    policy: {
      kind: 'object',
      description: 'Access policies',
      properties: {
        layout: {
          kind: 'choice',
          values: ['kubernetes', 'dapr'],
          default: 'kubernetes',
          description:
            'How namespace and app stand in a SPIFFE ID: /ns/<namespace>/sa/<app>, or /ns/<namespace>/<app>',
        },
        trust_domain_groups: {
          kind: 'map',
          values: {
            kind: 'list',
            items: { kind: 'text', format: 'trust-domain', description: 'A trust domain' },
            description: 'The trust domains of the group',
          },
          default: {},
          description: 'Names for several trust domains that policies may use as one',
        },
      },
    },
    rate_limits: {
      kind: 'boolean',
      default: true,
      description: 'Whether calls from the network are limited in rate',
    },
    log_level: logLevelSetting,
  },
} as const satisfies ObjectSchema

export type SentrySettings = Read<typeof sentrySettings>
