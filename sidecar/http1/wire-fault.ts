/** What can be wrong with bytes that should be HTTP. What concerns path, method and host alone, `policies/` judges. */
export const wireFaults = {
  bad_request_line: { status: 400, what: 'the request line is not one' },
  bad_status_line: { status: 400, what: 'the status line is not one' },
  bad_version: { status: 505, what: 'the version is neither HTTP/1.1 nor HTTP/1.0' },
  bad_header: { status: 400, what: 'a header line is not one' },
  folded_header: { status: 400, what: 'a header line is folded' },
  bare_line_end: { status: 400, what: 'a line ends in LF without CR' },
  bad_host: { status: 400, what: 'the Host header is missing or is no host' },
  bad_framing: { status: 400, what: 'Content-Length and Transfer-Encoding do not say one length' },
  bad_chunk: { status: 400, what: 'the chunked body is not one' },
  bad_expectation: { status: 417, what: 'something else than 100-continue is expected' },
  bad_upgrade: { status: 400, what: 'the upgrade request is not one' },
  body_too_large: { status: 413, what: 'the body is longer than allowed' },
  target_too_long: { status: 414, what: 'the request target is longer than allowed' },
  head_too_large: { status: 431, what: 'the head is longer than allowed' },
  too_many_headers: { status: 431, what: 'there are more header lines than allowed' },
  header_timeout: { status: 408, what: 'the head did not arrive in time' },
  unknown_method: { status: 405, what: 'the method is not one that is served' },
} as const satisfies Record<string, { readonly status: number; readonly what: string }>

export type WireFault = keyof typeof wireFaults
