package machine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"
)

const groupServers = "Servers"

// serverDialTimeout bounds the one TCP connection that Doctor tries.
const serverDialTimeout = time.Second

// server is a real server that a user may name by URL.
type server struct {
	id, name, variable string
	port               string // where the URL has none
}

var servers = []server{
	{"server.surrealdb", "SurrealDB", "SURREALDB_URL", "8000"},
	{"server.qdrant", "Qdrant", "QDRANT_URL", "6334"},
	{"server.postgres", "PostgreSQL", "POSTGRES_URL", "5432"},
	{"server.redis", "Redis", "REDIS_URL", "6379"},
	{"server.kafka", "Kafka", "KAFKA_BROKERS", "9092"},
	{"server.s3", "S3", "S3_ENDPOINT", "443"},
	{"server.elasticsearch", "Elasticsearch", "ELASTICSEARCH_URL", "9200"},
	{"server.ollama", "Ollama", "OLLAMA_HOST", "11434"},
}

// checkServers dials what the environment names and nothing else.
func checkServers(ctx context.Context, h host) []Finding {
	findings := make([]Finding, len(servers))
	var wg sync.WaitGroup
	for i, s := range servers {
		value := h.options.Env(s.variable)
		if value == "" {
			findings[i] = Finding{ID: s.id, Group: groupServers, Title: s.variable + " not set", Status: OK, Minor: true,
				Detail: "labs start a local " + s.name + " or use an embedded one, and say which"}
			continue
		}
		wg.Go(func() { findings[i] = dialServer(ctx, s, value) })
	}
	wg.Wait()
	return findings
}

// dialServer connects to one address of a list; the value's user and password
// must never show.
func dialServer(ctx context.Context, s server, value string) Finding {
	f := Finding{ID: s.id, Group: groupServers, Status: OK}
	addresses, err := serverAddresses(value, s.port)
	if err != nil {
		f.Status, f.Title, f.Detail = Absent, s.variable+" can't be read", err.Error()
		f.Costs, f.Fix = s.name+" falls back to a local or embedded one", "export "+s.variable+"=<scheme>://<host>:<port>"
		return f
	}
	ctx, cancel := context.WithTimeout(ctx, serverDialTimeout)
	defer cancel()
	var dialer net.Dialer
	var failed []error
	for _, address := range addresses {
		conn, err := dialer.DialContext(ctx, "tcp", address)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		f.Title, f.Detail = s.name+" reachable", address+" ("+s.variable+")"
		if err := conn.Close(); err != nil {
			f.Detail += "; " + err.Error()
		}
		return f
	}
	f.Status, f.Title = Absent, s.name+" not reachable"
	f.Detail = errors.Join(failed...).Error() + " (" + s.variable + ")"
	f.Costs = "labs that use it end with exit code 3 while the variable is set"
	f.Fix = "start the server, or: unset " + s.variable
	return f
}

// serverAddressesMax bounds a list of brokers.
const serverAddressesMax = 16

// serverAddresses reads a URL, a host:port or a comma separated list of them.
func serverAddresses(value, port string) ([]string, error) {
	var addresses []string
	for _, part := range strings.Split(value, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		host, err := hostPort(part, port)
		if err != nil {
			return nil, err
		}
		addresses = append(addresses, host)
	}
	if len(addresses) == 0 || len(addresses) > serverAddressesMax {
		return nil, fmt.Errorf("%d addresses, want 1 to %d", len(addresses), serverAddressesMax)
	}
	return addresses, nil
}

// schemePorts are the ports that a URL's scheme implies.
var schemePorts = map[string]string{"http": "80", "https": "443", "ws": "80", "wss": "443"}

// hostPort keeps url.Parse's error text out: it quotes the password.
func hostPort(part, port string) (string, error) {
	if !strings.Contains(part, "://") {
		part = "tcp://" + part
	}
	u, err := url.Parse(part)
	if err != nil || u.Hostname() == "" {
		return "", errors.New("it is neither a URL nor host:port")
	}
	switch {
	case u.Port() != "":
		port = u.Port()
	case schemePorts[u.Scheme] != "":
		port = schemePorts[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port), nil
}
