"""A workload written with the `spiffe` package from PyPI. Prints one JSON object."""

import json
import sys

from spiffe import JwtSource, WorkloadApiClient, X509Source


def main() -> None:
    socket, audience = sys.argv[1:3]
    with WorkloadApiClient(socket_path=socket) as client:
        context = client.fetch_x509_context()
        token = client.fetch_jwt_svid(audience={audience})
        bundles = client.fetch_jwt_bundles()
        validated = client.validate_jwt_svid(token.token, audience)
    with X509Source(socket_path=socket) as source:
        watched = str(source.svid.spiffe_id)
    with JwtSource(socket_path=socket) as source:
        fetched = source.fetch_svid(audience={audience})
    print(
        json.dumps(
            {
                "x509": str(context.default_svid.spiffe_id),
                "chain": len(context.default_svid.cert_chain),
                "jwt": str(token.spiffe_id),
                "validated": str(validated.spiffe_id),
                "jwt_bundles": len(bundles.bundles),
                "x509_source": watched,
                "jwt_source": str(fetched.spiffe_id),
            }
        )
    )


main()
