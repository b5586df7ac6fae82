import { once } from 'node:events'
import { createServer, type Socket } from 'node:net'
import { status } from '@grpc/grpc-js'
import { afterEach, describe, expect, test } from 'vitest'
import { parseSpiffeId } from '../../../spiffe/index.js'
import { endpointError } from '../../../spiffe/workload-api/endpoint-error.js'
import { workloadApiClient } from '../../../spiffe/workload-api/index.js'
import { testAuthority } from '../../support/authority.js'
import { fakeWorkloadApi } from '../../support/fake-workload-api.js'
import { tempFolder } from '../../support/temp-folder.js'
import { until } from '../../support/until.js'

const authority = testAuthority('a.example')
const federated = testAuthority('b.example')
const webId = parseSpiffeId('spiffe://a.example/web')

const setUp = async (options: Partial<Parameters<typeof fakeWorkloadApi>[0]> = {}) => {
  const api = await fakeWorkloadApi({ authority, ...options })
  const client = workloadApiClient({ address: api.address })
  return {
    api,
    client,
    async [Symbol.asyncDispose]() {
      client.close()
      await api[Symbol.asyncDispose]()
    },
  }
}

describe('one-shot calls', () => {
  test('WL-1: fetch identity, bundles and tokens and validate a token', async () => {
    await using at = await setUp({ federated: [federated] })
    const context = await at.client.fetchX509Context()
    expect(context.svids.map(({ id }) => id)).toEqual([webId])
    expect([...context.bundles.keys()]).toEqual(['a.example', 'b.example'])
    expect([...(await at.client.fetchX509Bundles()).keys()]).toEqual(['a.example', 'b.example'])
    expect([...(await at.client.fetchJwtBundles()).keys()]).toEqual(['a.example', 'b.example'])

    const [svid] = await at.client.fetchJwtSvids({ audience: 'ledger' })
    expect(svid.id).toBe(webId)
    const validated = await at.client.validateJwtSvid({ audience: 'ledger', token: svid.token })
    expect(validated.id).toBe(webId)
    expect(validated.claims).toMatchObject({ sub: webId, aud: ['ledger'] })
  })

  test('WE-7, WL-8: every call carries the security header and no deadline', async () => {
    await using at = await setUp()
    await at.client.fetchX509Context()
    await at.client.fetchX509Bundles()
    await at.client.fetchJwtBundles()
    const [{ token }] = await at.client.fetchJwtSvids({ audience: 'ledger' })
    await at.client.validateJwtSvid({ audience: 'ledger', token })
    expect(at.api.calls.map(({ method }) => method)).toEqual([
      'fetchX509Svid',
      'fetchX509Bundles',
      'fetchJwtBundles',
      'fetchJwtsvid',
      'validateJwtsvid',
    ])
    for (const { metadata, deadline } of at.api.calls) {
      expect(metadata.get('workload.spiffe.io')).toEqual(['true'])
      expect(deadline).toBe(Number.POSITIVE_INFINITY)
    }
  })

  test('share one connection', async () => {
    await using at = await setUp()
    await at.client.fetchX509Context()
    await at.client.fetchX509Bundles()
    await at.client.fetchJwtSvids({ audience: 'ledger' })
    expect(at.api.connections()).toBe(1)
  })

  test('WL-46: ask for one of several identities', async () => {
    await using at = await setUp({ identities: [{ id: '/web' }, { id: '/api', hint: 'internal' }] })
    const all = await at.client.fetchJwtSvids({ audience: ['ledger', 'bank'] })
    expect(all.map(({ id }) => id)).toEqual([webId, 'spiffe://a.example/api'])
    const id = parseSpiffeId('spiffe://a.example/api')
    const [one, ...others] = await at.client.fetchJwtSvids({ audience: 'ledger', id })
    expect(others).toEqual([])
    expect(one).toMatchObject({ id, hint: 'internal' })
  })

  test.each([
    ['no audience at all', []],
    ['an empty one', ['']],
    ['an empty one among others', ['ledger', '']],
  ])('WL-19: %s is refused without asking', async (_, audience) => {
    await using at = await setUp()
    await expect(at.client.fetchJwtSvids({ audience })).rejects.toMatchObject({
      code: 'CS_ENDPOINT_REFUSED',
    })
    expect(at.api.calls).toEqual([])
  })

  test('OPEN-16: a token that the endpoint finds bad is not a bad request', async () => {
    await using at = await setUp()
    const token = authority.issueJwt({ id: webId, audience: 'bank' })
    await expect(at.client.validateJwtSvid({ audience: 'ledger', token })).rejects.toMatchObject({
      code: 'CS_JWT_SVID_INVALID',
      message: expect.not.stringContaining(token) as string,
    })
    await expect(
      at.client.validateJwtSvid({ audience: 'ledger', token: '' }),
    ).rejects.toMatchObject({
      code: 'CS_JWT_SVID_INVALID',
    })
  })

  test.each([
    [status.PERMISSION_DENIED, 'CS_NO_IDENTITY'],
    [status.INVALID_ARGUMENT, 'CS_ENDPOINT_REFUSED'],
    [status.UNIMPLEMENTED, 'CS_ENDPOINT_REFUSED'],
    [status.UNAVAILABLE, 'CS_ENDPOINT_UNAVAILABLE'],
    [status.INTERNAL, 'CS_ENDPOINT_UNAVAILABLE'],
    [status.RESOURCE_EXHAUSTED, 'CS_ENDPOINT_UNAVAILABLE'],
    [status.UNKNOWN, 'CS_ENDPOINT_UNAVAILABLE'],
  ])(
    'status %s becomes %s, with what the endpoint said, after one attempt',
    async (code, expected) => {
      await using at = await setUp()
      const failure = { code, details: 'because of this' }
      at.api.failNext('fetchX509Svid', failure)
      at.api.failNext('fetchJwtsvid', failure)
      const error = {
        code: expected,
        message: expect.stringContaining('because of this') as string,
      }
      await expect(at.client.fetchX509Context()).rejects.toMatchObject(error)
      await expect(at.client.fetchJwtSvids({ audience: 'ledger' })).rejects.toMatchObject(error)
      expect(at.api.calls).toHaveLength(2)
    },
  )

  test('a failed call does not keep the next one from succeeding', async () => {
    await using at = await setUp()
    await at.api.stop()
    await expect(at.client.fetchX509Context()).rejects.toMatchObject({ code: 'CS_SOCKET_MISSING' })
    await at.api.start()
    await expect(at.client.fetchX509Context()).resolves.toMatchObject({ svids: [{ id: webId }] })
  })

  test('a signal ends a call that hangs, with its reason', async () => {
    await using at = await setUp()
    at.api.hang('fetchX509Svid', true)
    at.api.hang('fetchJwtsvid', true)
    const stop = new AbortController()
    const stream = at.client.fetchX509Context(stop.signal)
    const unary = at.client.fetchJwtSvids({ audience: 'ledger', signal: stop.signal })
    await at.api.called('fetchX509Svid', 1)
    await at.api.called('fetchJwtsvid', 1)
    const reason = new Error('enough')
    stop.abort(reason)
    await expect(stream).rejects.toBe(reason)
    await expect(unary).rejects.toBe(reason)
    await expect(at.client.fetchX509Bundles(stop.signal)).rejects.toBe(reason)
  })

  test('a stream that ends without a message is no answer', async () => {
    await using at = await setUp()
    at.api.hang('fetchX509Svid', true)
    const context = at.client.fetchX509Context()
    await at.api.called('fetchX509Svid', 1)
    at.api.endStreams()
    await expect(context).rejects.toMatchObject({ code: 'CS_RESPONSE_INVALID' })
  })

  test('something that does not speak gRPC is not available', async () => {
    await using folder = await tempFolder()
    const path = folder.file('http.sock')
    const server = createServer((socket: Socket) => {
      socket.on('error', () => undefined).end('HTTP/1.1 400 Bad Request\r\n\r\n')
    }).listen(path)
    await once(server, 'listening')
    const client = workloadApiClient({ address: `unix://${path}` })
    await expect(client.fetchX509Context()).rejects.toMatchObject({
      code: 'CS_ENDPOINT_UNAVAILABLE',
    })
    client.close()
    server.close()
  })

  test('after closing, a new call would dial again; closing twice is closing once', async () => {
    await using at = await setUp()
    await at.client.fetchX509Context()
    at.client.close()
    at.client.close()
    await expect(at.client.fetchX509Context()).resolves.toBeDefined()
    await until(() => at.api.connections() === 2)
  })
})

describe('over TCP', () => {
  afterEach(() => {
    delete process.env['http_proxy']
  })

  test('WE-4, WE-9: speaks plain gRPC over a loopback port, whatever proxy the environment names', async () => {
    process.env['http_proxy'] = 'http://127.0.0.1:9'
    await using at = await setUp({ tcp: true })
    expect(at.client.address).toMatchObject({ kind: 'tcp', host: '127.0.0.1' })
    await expect(at.client.fetchX509Context()).resolves.toMatchObject({ svids: [{ id: webId }] })
  })
})

describe('the address', () => {
  test('WE-11: comes from SPIFFE_ENDPOINT_SOCKET of the given environment', async () => {
    await using at = await setUp()
    const { clock, random } = (await import('../../../spiffe/runtime.js')).nodeRuntime
    const runtime = { clock, random, environment: { SPIFFE_ENDPOINT_SOCKET: at.api.address } }
    const client = workloadApiClient({ runtime })
    await expect(client.fetchX509Context()).resolves.toBeDefined()
    client.close()
    expect(() => workloadApiClient({ runtime: { ...runtime, environment: {} } })).toThrow(
      expect.objectContaining({ code: 'CS_SOCKET_INVALID' }),
    )
  })
})

describe('endpointError', () => {
  const address = { kind: 'unix', path: '/run/a.sock' } as const
  const dialled = (error: string) => ({
    code: status.UNAVAILABLE,
    details: `No connection established. Last error: Error: connect ${error} /run/a.sock. Resolution note: `,
  })

  test.each([
    ['ENOENT', 'CS_SOCKET_MISSING', 'nothing listens at unix:///run/a.sock (ENOENT)'],
    ['ECONNREFUSED', 'CS_SOCKET_MISSING', 'nothing listens at unix:///run/a.sock (ECONNREFUSED)'],
    ['EACCES', 'CS_SOCKET_DENIED', 'this user may not open unix:///run/a.sock (EACCES)'],
    ['EPERM', 'CS_SOCKET_DENIED', 'this user may not open unix:///run/a.sock (EPERM)'],
    ['EAGAIN', 'CS_ENDPOINT_UNAVAILABLE', 'endpoint unix:///run/a.sock is not available'],
  ])('a dial that ends in %s is %s', (system, code, message) => {
    const error = endpointError(dialled(system), address)
    expect(error.code).toBe(code)
    expect(error.message).toContain(message)
  })
})
