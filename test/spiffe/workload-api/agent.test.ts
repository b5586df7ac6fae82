import { describe, expect, test } from 'vitest'
import { JwtSource, workloadApiClient, X509Source } from '../../../spiffe/workload-api/index.js'
import { testAuthority } from '../../support/authority.js'
import { fakeAttestation } from '../../support/fake-attestation.js'
import { fakeIdentities } from '../../support/fake-identities.js'
import { testEndpoint } from '../../support/local-endpoint.js'

const entries = [
  { path: '/web', selectors: ['unix:uid:1000'], federatesWith: ['b.example'] },
  { path: '/api', selectors: ['unix:uid:1000'], hint: 'internal' },
]
const setUp = async () => {
  const identities = fakeIdentities({ entries, federated: [testAuthority('b.example')] })
  const attestation = fakeAttestation()
  const endpoint = await testEndpoint({ identities, attestation })
  return {
    identities,
    attestation,
    address: `unix://${endpoint.path}`,
    [Symbol.asyncDispose]: () => endpoint[Symbol.asyncDispose](),
  }
}
const nextChange = (source: X509Source) =>
  new Promise<void>((resolve) => {
    const stop = source.onChange(() => {
      stop()
      resolve()
    })
  })

describe('our library at our own agent', () => {
  test('follows an identity through rotation, withdrawal and return', async () => {
    await using at = await setUp()
    await using source = await X509Source.open({ address: at.address })
    const first = source.x509Svid()
    expect(first.id).toBe('spiffe://prod.example/web')
    expect([...source.context().bundles.keys()]).toEqual(['prod.example', 'b.example'])

    const rotated = nextChange(source)
    at.identities.issue('/web')
    await rotated
    expect(source.x509Svid().chain[0].serialNumber).not.toBe(first.chain[0].serialNumber)

    const withdrawn = nextChange(source)
    at.identities.setEntries([])
    await withdrawn
    expect(() => source.x509Svid()).toThrow(expect.objectContaining({ code: 'CS_NO_IDENTITY' }))

    const granted = nextChange(source)
    at.identities.setEntries(entries)
    await granted
    expect(source.x509Svid().id).toBe('spiffe://prod.example/web')
  })

  test('fetches tokens, has them validated and validates them itself', async () => {
    await using at = await setUp()
    using client = workloadApiClient({ address: at.address })
    const tokens = await client.fetchJwtSvids({ audience: 'ledger' })
    expect(tokens.map(({ id, hint }) => [id, hint])).toEqual([
      ['spiffe://prod.example/web', undefined],
      ['spiffe://prod.example/api', 'internal'],
    ])
    const [{ token }] = tokens
    const validated = await client.validateJwtSvid({ audience: 'ledger', token })
    expect(validated.id).toBe('spiffe://prod.example/web')
    await expect(client.validateJwtSvid({ audience: 'bank', token })).rejects.toMatchObject({
      code: 'CS_JWT_SVID_INVALID',
    })
    await using source = await JwtSource.open({ address: at.address })
    expect(source.verify({ token, audience: 'ledger' }).id).toBe('spiffe://prod.example/web')
    expect((await source.jwtSvid({ audience: 'bank' })).audience).toEqual(['bank'])
  })

  test('is told the same as everybody when it is entitled to nothing', async () => {
    await using at = await setUp()
    at.attestation.show([])
    using client = workloadApiClient({ address: at.address })
    for (const call of [
      client.fetchX509Context(),
      client.fetchX509Bundles(),
      client.fetchJwtBundles(),
      client.fetchJwtSvids({ audience: 'ledger' }),
    ]) {
      await expect(call).rejects.toMatchObject({ code: 'CS_NO_IDENTITY' })
    }
  })

  test('is told to wait while the agent is not ready', async () => {
    await using at = await setUp()
    at.identities.setReady(false)
    using client = workloadApiClient({ address: at.address })
    await expect(client.fetchX509Context()).rejects.toMatchObject({
      code: 'CS_ENDPOINT_UNAVAILABLE',
    })
  })
})
