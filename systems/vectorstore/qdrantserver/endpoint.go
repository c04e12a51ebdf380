package qdrantserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/qdrant/go-client/qdrant"

	"github.com/nexuscore-labs/nexus/systems/vectorstore"
)

// The environment that names a real Qdrant.
const (
	EnvURL    = "QDRANT_URL"     // http://host:6334, https://host:6334 or host:6334, of its gRPC port
	EnvAPIKey = "QDRANT_API_KEY" // if it asks for one
)

const portDefault = 6334

// Endpoint is a Qdrant to talk to: the one that the environment names, or an
// embedded one.
type Endpoint struct {
	Config   qdrant.Config // for qdrant.NewClient
	Served   string        // what answers, with its version, for reports
	Embedded bool
	// Store is behind an embedded one, nil otherwise.
	Store *vectorstore.Store

	server *Server
	ended  chan error
}

// Find returns the Qdrant of the environment, or starts one on a free port of
// loopback with its data in dir. Close it.
func Find(ctx context.Context, dir string, o vectorstore.Options) (*Endpoint, error) {
	if address := os.Getenv(EnvURL); address != "" {
		config, err := parseURL(address)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", EnvURL, err)
		}
		config.APIKey = os.Getenv(EnvAPIKey)
		e := &Endpoint{Config: config}
		return e, e.introduce(ctx)
	}
	return start(ctx, dir, "127.0.0.1:0", o)
}

// start starts an embedded one at the address.
func start(ctx context.Context, dir, address string, o vectorstore.Options) (*Endpoint, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("start embedded Qdrant: %w", err)
	}
	store, err := vectorstore.Open(dir, o)
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	e := &Endpoint{Embedded: true, Store: store, server: New(store), ended: make(chan error, 1)}
	e.Config = qdrant.Config{Host: "127.0.0.1", Port: listener.Addr().(*net.TCPAddr).Port, PoolSize: 1, SkipCompatibilityCheck: true}
	go func() { e.ended <- e.server.Serve(listener) }()
	if err := e.introduce(ctx); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

// introduce asks who answers.
func (e *Endpoint) introduce(ctx context.Context) error {
	config := e.Config
	client, err := qdrant.NewClient(&config)
	if err != nil {
		return fmt.Errorf("connect to Qdrant: %w", err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	reply, err := client.HealthCheck(ctx)
	if err != nil {
		return fmt.Errorf("ask Qdrant at %s:%d for its health: %w", e.Config.Host, e.Config.Port, err)
	}
	e.Served = fmt.Sprintf("%s (interface version %s)", reply.GetTitle(), reply.GetVersion())
	return nil
}

// Close stops an embedded one; a real one goes on.
func (e *Endpoint) Close() error {
	if e.server == nil {
		return nil
	}
	e.server.Stop(time.Second)
	return errors.Join(<-e.ended, e.Store.Close())
}

func parseURL(address string) (qdrant.Config, error) {
	config := qdrant.Config{Port: portDefault, SkipCompatibilityCheck: true}
	if !strings.Contains(address, "://") {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return config, fmt.Errorf("%q is neither http://host:port nor host:port", address)
		}
		config.Host = host
		config.Port, err = strconv.Atoi(port)
		if err != nil || host == "" || config.Port < 1 || config.Port > 65535 {
			return config, fmt.Errorf("%q is no host and port", address)
		}
		return config, nil
	}
	u, err := url.Parse(address)
	if err != nil {
		return config, fmt.Errorf("%q is no URL: %w", address, err)
	}
	if u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "grpc" {
		return config, fmt.Errorf("%q is neither http://host:port nor host:port", address)
	}
	config.Host, config.UseTLS = u.Hostname(), u.Scheme == "https"
	if u.Port() != "" {
		if config.Port, err = strconv.Atoi(u.Port()); err != nil {
			return config, fmt.Errorf("%q: %w", address, err)
		}
	}
	return config, nil
}
