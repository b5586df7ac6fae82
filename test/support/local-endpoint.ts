import {
  type LocalEndpoints,
  type LocalEndpointsOptions,
  openLocalEndpoints,
} from '../../agent/local/endpoints.js'
import { systemClock } from '../../platform/clock.js'
import { silentLog } from '../../platform/log.js'
import { type FakeIdentities, fakeIdentities } from './fake-identities.js'
import { type LocalClient, localClient } from './local-client.js'
import { seededRandom } from './seeded-random.js'
import { tempFolder } from './temp-folder.js'

/** The local sockets of an agent in a folder of their own, with a client that calls from this process. */
export interface TestEndpoint extends AsyncDisposable {
  readonly endpoints: LocalEndpoints
  readonly path: string
  readonly privatePath: string
  readonly client: LocalClient
}

export type TestEndpointOptions = Partial<Omit<LocalEndpointsOptions, 'sockets'>> & {
  readonly identities?: FakeIdentities
}

export async function testEndpoint(options: TestEndpointOptions = {}): Promise<TestEndpoint> {
  const folder = await tempFolder()
  const path = folder.file('public.sock')
  const privatePath = folder.file('private.sock')
  const endpoints = await openLocalEndpoints({
    identities: fakeIdentities(),
    clock: systemClock,
    random: seededRandom(1),
    log: silentLog,
    privateSocket: privatePath,
    ...options,
    sockets: [{ path }],
  })
  const client = localClient(path)
  return {
    endpoints,
    path,
    privatePath,
    client,
    async [Symbol.asyncDispose]() {
      client[Symbol.dispose]()
      await endpoints.close()
      await folder[Symbol.asyncDispose]()
    },
  }
}
