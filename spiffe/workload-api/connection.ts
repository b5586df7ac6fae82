import { type ClientOptions, credentials, Metadata } from '@grpc/grpc-js'
import { type EndpointAddress, grpcTarget } from './address.js'
import { SpiffeWorkloadAPIClient } from './gen/workload.js'

/** Proves to the endpoint that the caller speaks gRPC on purpose (Workload Endpoint §3). */
export function securityMetadata(): Metadata {
  const metadata = new Metadata()
  metadata.set('workload.spiffe.io', 'true')
  return metadata
}

/**
 * The one connection to the endpoint that all calls share. It is dialled on first use; after a
 * failed dial it is dropped, because grpc-js would otherwise wait by its own clock to dial again.
 */
export interface Connection {
  client(): SpiffeWorkloadAPIClient
  /** Gives up this client, unless another has taken its place. Calls still running on it go on. */
  drop(client: SpiffeWorkloadAPIClient): void
  close(): void
}

const options: ClientOptions = {
  'grpc.use_local_subchannel_pool': 1,
  // The watch decides when to try again; the endpoint is local, whatever http_proxy says.
  'grpc.enable_retries': 0,
  'grpc.enable_http_proxy': 0,
  'grpc.service_config_disable_resolution': 1,
}

export function connectionTo(address: EndpointAddress): Connection {
  let current: SpiffeWorkloadAPIClient | undefined
  const dial = () =>
    new SpiffeWorkloadAPIClient(grpcTarget(address), credentials.createInsecure(), options)

  return {
    client: () => (current ??= dial()),
    drop(client) {
      client.close()
      if (client === current) current = undefined
    },
    close() {
      current?.close()
      current = undefined
    },
  }
}
