import { resolve } from 'node:path'
import { BundleClient } from '../../proto/gen/spire/api/server/bundle/v1/bundle.js'
import { SpiffeError } from '../../spiffe/index.js'
import {
  type EndpointAddress,
  formatEndpointAddress,
  parseEndpointAddress,
  type X509Context,
} from '../../spiffe/workload-api/index.js'
import { askEndpoint } from '../api/endpoint.js'
import { x509ContextJson, x509ContextText } from '../api/views.js'
import type { CliContext } from '../context.js'
import { fields } from '../output.js'
import { ask, sentryClient } from '../sentry-client.js'
import { finding, type Inspection } from './inspection.js'
import { type Listener, listenerOf, type SocketFile, socketFile } from './listener.js'

const TIMEOUT_MS = 5000

type Answer =
  | { readonly kind: 'workload-api'; readonly context: X509Context }
  /** It speaks the Workload API and said no to this process. */
  | { readonly kind: 'workload-api-refused'; readonly error: SpiffeError }
  | { readonly kind: 'sentry'; readonly trustDomain: string }
  | { readonly kind: 'unknown'; readonly error: SpiffeError }

/** Says of an address or the path of a socket who listens and what it speaks. Throws `CS_SOCKET_INVALID`, `CS_SOCKET_MISSING`, `CS_SOCKET_DENIED`. */
export async function inspectSocket(text: string, context: CliContext): Promise<Inspection> {
  const isPath = !text.startsWith('unix:') && !text.startsWith('tcp:')
  const given = isPath ? formatEndpointAddress({ kind: 'unix', path: resolve(text) }) : text
  const address = parseEndpointAddress(given)
  const answer = await answerOf(address, context)
  const path = address.kind === 'unix' ? address.path : undefined
  const file = path === undefined ? undefined : await socketFile(path)
  const listener = path === undefined ? undefined : await listenerOf(path)
  const error = 'error' in answer ? answer.error : undefined
  return {
    kind: 'socket',
    findings: error ? [finding(error.code, error.message)] : [],
    json: {
      address: formatEndpointAddress(address),
      speaks: speaks[answer.kind],
      trust_domain: answer.kind === 'sentry' ? answer.trustDomain : null,
      code: error?.code ?? null,
      identity: answer.kind === 'workload-api' ? x509ContextJson(answer.context) : null,
      file: file ?? null,
      listener: listener ?? null,
    },
    text: socketText(answer, { address, file, listener, now: context.now() }),
  }
}

const speaks = {
  'workload-api': 'spiffe workload api',
  'workload-api-refused': 'spiffe workload api',
  sentry: 'spire server api',
  unknown: null,
} as const

async function answerOf(address: EndpointAddress, context: CliContext): Promise<Answer> {
  try {
    const socket = formatEndpointAddress(address)
    const found = await askEndpoint({ socket, timeout: TIMEOUT_MS }, context, (client, signal) =>
      client.fetchX509Context(signal),
    )
    return { kind: 'workload-api', context: found }
  } catch (error) {
    if (!(error instanceof SpiffeError)) throw error
    return answerInstead(error, address, context)
  }
}

async function answerInstead(
  error: SpiffeError,
  address: EndpointAddress,
  context: CliContext,
): Promise<Answer> {
  switch (error.code) {
    case 'CS_NO_IDENTITY':
    case 'CS_RESPONSE_INVALID':
      return { kind: 'workload-api-refused', error }
    case 'CS_ENDPOINT_REFUSED': {
      const trustDomain =
        address.kind === 'unix' ? await sentryAt(address.path, context) : undefined
      return trustDomain === undefined
        ? { kind: 'unknown', error }
        : { kind: 'sentry', trustDomain }
    }
    case 'CS_ENDPOINT_UNAVAILABLE':
      return { kind: 'unknown', error }
    default:
      throw error
  }
}

/** Whatever serves the bundle of a trust domain over a socket is a sentry or a SPIRE server. */
async function sentryAt(path: string, context: CliContext): Promise<string | undefined> {
  const client = sentryClient(BundleClient, path)
  try {
    const request = { outputMask: undefined }
    const bundle = await ask(client, 'getBundle', { request, context, timeoutMs: TIMEOUT_MS })
    return bundle.trustDomain
  } catch {
    return undefined
  } finally {
    client.close()
  }
}

interface SocketFacts {
  readonly address: EndpointAddress
  readonly file: SocketFile | undefined
  readonly listener: Listener | undefined
  readonly now: Date
}

function socketText(answer: Answer, { address, file, listener, now }: SocketFacts): string {
  const rows: (readonly [string, string] | undefined)[] = [
    ['address', formatEndpointAddress(address)],
    ['speaks', speaksText(answer)],
    listener && ['listener', listenerText(listener)],
    file && ['file', `mode ${file.mode}, uid ${file.uid}, gid ${file.gid}`],
  ]
  const head = `Socket\n\n${fields(rows.filter((row) => row !== undefined))}`
  if (answer.kind !== 'workload-api') return head
  return `${head}\n\nGranted to this process:\n\n${x509ContextText(answer.context, now)}`
}

function speaksText(answer: Answer): string {
  switch (answer.kind) {
    case 'workload-api':
      return 'the SPIFFE Workload API'
    case 'workload-api-refused':
      return `the SPIFFE Workload API, but ${answer.error.message}`
    case 'sentry':
      return `the API of a SPIRE server or sentry of ${answer.trustDomain}`
    case 'unknown':
      return `not known: ${answer.error.message}`
  }
}

function listenerText({ pid, uid, gid, program }: Listener): string {
  return `${program ?? 'program not visible'} (pid ${pid}, uid ${uid}, gid ${gid})`
}
