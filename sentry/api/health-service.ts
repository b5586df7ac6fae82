import {
  type HealthServer,
  HealthCheckResponse_ServingStatus as Serving,
} from '../../proto/gen/grpc/health/v1/health.js'
import { bundleTable } from '../bundles/bundle-record.js'
import { SentryError } from '../errors.js'
import type { ApiContext } from './context.js'
import type { ServerCalls } from './server-calls.js'

/** `grpc.health.v1.Health`, as SPIRE's command line asks it: serving while there is a bundle to serve. */
export function healthService(context: ApiContext, calls: ServerCalls): HealthServer {
  const { datastore, trustDomain } = context
  return {
    check: calls.unary(({ service }) => {
      if (service !== '') {
        throw new SentryError('CS_REQUEST_INVALID', 'per-service health is not supported')
      }
      const serving = datastore.view(bundleTable).get(trustDomain) !== undefined
      return { status: serving ? Serving.SERVING : Serving.NOT_SERVING }
    }),
    watch: calls.serverStream(() =>
      Promise.reject(new SentryError('CS_FEATURE_OFF', 'watching health is not supported')),
    ),
  }
}
