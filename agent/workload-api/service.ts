import { SpiffeWorkloadAPIService } from '../../spiffe/workload-api/index.js'
import { fetchJwtBundles } from './fetch-jwt-bundles.js'
import { fetchJwtSvid } from './fetch-jwt-svid.js'
import { fetchX509Bundles } from './fetch-x509-bundles.js'
import { fetchX509Svid } from './fetch-x509-svid.js'
import type { LocalService } from './local-server.js'
import { type ValidationContext, validateJwtSvid } from './validate-jwt-svid.js'
import { notOffered } from './wit.js'

/** Streams hand over bytes that are encoded already, once for all callers with the same content. */
const encoded = { responseSerialize: (bytes: Buffer) => bytes }

/** The standard's service, without an addition to it (Workload API §2). */
export function workloadApi(context: ValidationContext): LocalService {
  const {
    fetchX509Svid: svids,
    fetchX509Bundles: x509,
    fetchJwtBundles: jwt,
  } = SpiffeWorkloadAPIService
  return {
    definition: {
      ...SpiffeWorkloadAPIService,
      fetchX509Svid: { ...svids, ...encoded },
      fetchX509Bundles: { ...x509, ...encoded },
      fetchJwtBundles: { ...jwt, ...encoded },
    },
    handlers: {
      fetchX509Svid: fetchX509Svid(context),
      fetchX509Bundles: fetchX509Bundles(context),
      fetchJwtsvid: fetchJwtSvid(context),
      fetchJwtBundles: fetchJwtBundles(context),
      validateJwtsvid: validateJwtSvid(context),
      fetchWitsvid: notOffered(context, 'FetchWITSVID'),
      fetchWitBundles: notOffered(context, 'FetchWITBundles'),
    },
  }
}
