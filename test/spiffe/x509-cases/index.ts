import { root } from '../x509-world.js'
import { goodCases } from './accepted.js'
import { algorithmsCases } from './algorithms.js'
import { td, type X509Case } from './case.js'
import { constraintsCases } from './constraints.js'
import { crossingCases } from './crossing.js'
import { domainsCases } from './domains.js'
import { namesCases } from './names.js'
import { pathCases } from './path.js'
import { profileCases } from './profile.js'

/** Every chain that is judged, each under the usual root unless it says otherwise. */
export const x509Cases: readonly X509Case[] = [
  ...goodCases,
  ...namesCases,
  ...profileCases,
  ...pathCases,
  ...domainsCases,
  ...crossingCases,
  ...constraintsCases,
  ...algorithmsCases,
].map((entry) => ({ bundles: () => td(root()), ...entry }))
