// Command interop is a workload written with go-spiffe. Tests run it against our endpoint and our proxy; it
// prints one JSON object a line.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

type options struct {
	socket   string
	audience string
	expect   string
	url      string
	method   string
	updates  int
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		say(map[string]any{"error": err.Error()})
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return errors.New("a command is missing: x509, jwt, watch, call or serve")
	}
	var o options
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	flags.StringVar(&o.socket, "socket", "", "address of the Workload API")
	flags.StringVar(&o.audience, "audience", "", "audience of the token")
	flags.StringVar(&o.expect, "expect", "", "SPIFFE ID of the peer")
	flags.StringVar(&o.url, "url", "", "what to call")
	flags.StringVar(&o.method, "method", http.MethodGet, "how to call it")
	flags.IntVar(&o.updates, "updates", 2, "how many updates to watch")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()

	commands := map[string]func(context.Context, options) error{
		"x509": fetchX509, "jwt": fetchJWT, "watch": watch, "call": call, "serve": serve,
	}
	command, known := commands[args[0]]
	if !known {
		return fmt.Errorf("no command %q", args[0])
	}
	return command(ctx, o)
}

func fetchX509(ctx context.Context, o options) error {
	client, err := workloadapi.New(ctx, workloadapi.WithAddr(o.socket))
	if err != nil {
		return err
	}
	defer client.Close()
	fetched, err := client.FetchX509Context(ctx)
	if err != nil {
		return err
	}
	var svids []map[string]any
	for _, svid := range fetched.SVIDs {
		verified, _, err := x509svid.Verify(svid.Certificates, fetched.Bundles)
		if err != nil {
			return fmt.Errorf("verify %s: %w", svid.ID, err)
		}
		svids = append(svids, describe(svid, verified.String()))
	}
	bundles, err := client.FetchX509Bundles(ctx)
	if err != nil {
		return err
	}
	say(map[string]any{"svids": svids, "bundles": authorities(bundles)})
	return nil
}

func authorities(set *x509bundle.Set) map[string]int {
	held := map[string]int{}
	for _, bundle := range set.Bundles() {
		held[bundle.TrustDomain().Name()] = len(bundle.X509Authorities())
	}
	return held
}

func describe(svid *x509svid.SVID, verified string) map[string]any {
	leaf := svid.Certificates[0]
	return map[string]any{
		"id": svid.ID.String(), "verified": verified, "hint": svid.Hint,
		"serial": leaf.SerialNumber.Text(16), "not_after": leaf.NotAfter, "chain": len(svid.Certificates),
	}
}

func fetchJWT(ctx context.Context, o options) error {
	client, err := workloadapi.New(ctx, workloadapi.WithAddr(o.socket))
	if err != nil {
		return err
	}
	defer client.Close()
	svid, err := client.FetchJWTSVID(ctx, jwtsvid.Params{Audience: o.audience})
	if err != nil {
		return err
	}
	bundles, err := client.FetchJWTBundles(ctx)
	if err != nil {
		return err
	}
	local, err := jwtsvid.ParseAndValidate(svid.Marshal(), bundles, []string{o.audience})
	if err != nil {
		return fmt.Errorf("local validation: %w", err)
	}
	remote, err := client.ValidateJWTSVID(ctx, svid.Marshal(), o.audience)
	if err != nil {
		return fmt.Errorf("remote validation: %w", err)
	}
	_, wrong := client.ValidateJWTSVID(ctx, svid.Marshal(), "another-audience")
	say(map[string]any{
		"id": svid.ID.String(), "local": local.ID.String(), "remote": remote.ID.String(),
		"refused": wrong != nil, "keys": jwtKeys(bundles, svid.ID.TrustDomain()),
	})
	return nil
}

func jwtKeys(set *jwtbundle.Set, domain spiffeid.TrustDomain) int {
	bundle, held := set.Get(domain)
	if !held {
		return 0
	}
	return len(bundle.JWTAuthorities())
}

type watcher struct {
	left int
	done context.CancelFunc
}

func (w *watcher) OnX509ContextUpdate(update *workloadapi.X509Context) {
	say(describe(update.DefaultSVID(), ""))
	if w.left--; w.left == 0 {
		w.done()
	}
}

func (w *watcher) OnX509ContextWatchError(err error) {
	if !errors.Is(err, context.Canceled) && !strings.Contains(err.Error(), "context canceled") {
		say(map[string]any{"watch_error": err.Error()})
	}
}

func watch(ctx context.Context, o options) error {
	ctx, done := context.WithCancel(ctx)
	defer done()
	err := workloadapi.WatchX509Context(ctx, &watcher{left: o.updates, done: done}, workloadapi.WithAddr(o.socket))
	if errors.Is(err, context.Canceled) || strings.Contains(fmt.Sprint(err), "canceled") {
		return nil
	}
	return err
}

func call(ctx context.Context, o options) error {
	source, err := workloadapi.NewX509Source(ctx, workloadapi.WithClientOptions(workloadapi.WithAddr(o.socket)))
	if err != nil {
		return err
	}
	defer source.Close()
	expected, err := spiffeid.FromString(o.expect)
	if err != nil {
		return err
	}
	transport := &http.Transport{
		TLSClientConfig:   tlsconfig.MTLSClientConfig(source, source, tlsconfig.AuthorizeID(expected)),
		ForceAttemptHTTP2: true,
	}
	request, err := http.NewRequestWithContext(ctx, o.method, o.url, nil)
	if err != nil {
		return err
	}
	answer, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	say(map[string]any{
		"status": answer.StatusCode, "protocol": answer.Proto, "body": string(body),
		"decision": answer.Header.Get("x-countersign-decision"),
	})
	return nil
}

func serve(ctx context.Context, o options) error {
	source, err := workloadapi.NewX509Source(ctx, workloadapi.WithClientOptions(workloadapi.WithAddr(o.socket)))
	if err != nil {
		return err
	}
	defer source.Close()
	expected, err := spiffeid.FromString(o.expect)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler:   http.HandlerFunc(answerWithCaller),
		TLSConfig: tlsconfig.MTLSServerConfig(source, source, tlsconfig.AuthorizeID(expected)),
	}
	say(map[string]any{"listening": listener.Addr().String()})
	go func() {
		<-ctx.Done()
		server.Close()
	}()
	if err := server.ServeTLS(listener, "", ""); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func answerWithCaller(w http.ResponseWriter, r *http.Request) {
	id, err := x509svid.IDFromCert(r.TLS.PeerCertificates[0])
	if err != nil {
		http.Error(w, err.Error(), http.StatusForbidden)
		return
	}
	w.Header().Set("content-type", "application/json")
	json.NewEncoder(w).Encode(map[string]string{"caller": id.String(), "path": r.URL.Path, "method": r.Method})
}

func say(value any) {
	line, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(line))
}
