package realserver

import (
	"context"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
)

var ctx = context.Background()

// started skips a test only where the server's program is not installed.
func started(t *testing.T, s *Server, err error) *Server {
	t.Helper()
	if errors.Is(err, ErrMissing) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestRedis(t *testing.T) {
	s, err := Redis(ctx, "--maxmemory", "64mb")
	started(t, s, err)
	options, err := redis.ParseURL(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(options)
	defer client.Close()
	if err := client.Set(ctx, "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if got, err := client.Get(ctx, "k").Result(); got != "v" || err != nil {
		t.Fatalf("got %q, error %v", got, err)
	}
	if got := client.ConfigGet(ctx, "maxmemory").Val()["maxmemory"]; got != "67108864" {
		t.Fatalf("maxmemory %s", got)
	}
	dir := client.ConfigGet(ctx, "dir").Val()["dir"]
	checkEnd(t, s, dir, "Redis ")
}

func TestPostgres(t *testing.T) {
	s, err := Postgres(ctx, "max_connections=20")
	started(t, s, err)
	conn, err := pgx.Connect(ctx, s.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	var connections, dir, durable string
	err = conn.QueryRow(ctx, "SELECT current_setting('max_connections'), current_setting('data_directory'), current_setting('fsync')").Scan(&connections, &dir, &durable)
	if err != nil || connections != "20" || durable != "on" {
		t.Fatalf("max_connections %s, fsync %s, error %v", connections, durable, err)
	}
	checkEnd(t, s, dir, "PostgreSQL ")
}

// checkEnd ends a server and looks for what it left.
func checkEnd(t *testing.T, s *Server, dir, version string) {
	t.Helper()
	if !s.Managed || !strings.HasPrefix(s.Version, version) || s.PID() == 0 {
		t.Fatalf("server %+v", s)
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Kill(s.PID(), 0); !errors.Is(err, syscall.ESRCH) {
		t.Fatalf("process %d is still there: error %v", s.PID(), err)
	}
	if _, err := os.Stat(dir); dir == "" || !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("folder %q is still there: error %v", dir, err)
	}
}

// A server that is killed is noticed, and Close still cleans up.
func TestKilled(t *testing.T) {
	s, err := Redis(ctx)
	started(t, s, err)
	if err := syscall.Kill(s.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.Exited():
	case <-time.After(20 * time.Second):
		t.Fatal("its end was not noticed")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestStartFails(t *testing.T) {
	for _, start := range []func(context.Context, ...string) (*Server, error){Redis, Postgres} {
		s, err := start(ctx)
		started(t, s, err)
	}
	_, err := Redis(ctx, "--no-such-option", "1")
	if err == nil || !strings.Contains(err.Error(), "no-such-option") {
		t.Fatalf("Redis with a bad option: error %v", err)
	}
	if _, err = Postgres(ctx, "no_such_setting=1"); err == nil || !strings.Contains(err.Error(), "no_such_setting") {
		t.Fatalf("PostgreSQL with a bad setting: error %v", err)
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := Redis(ctx); !errors.Is(err, ErrMissing) {
		t.Fatalf("no Redis on PATH: error %v", err)
	}
}

// A server named by URL is used and left running.
func TestNamed(t *testing.T) {
	running, err := Redis(ctx)
	started(t, running, err)
	t.Setenv(RedisURLVariable, running.URL)
	named, err := Redis(ctx)
	if err != nil || named.Managed || named.Address != running.Address || named.Version != running.Version {
		t.Fatalf("named %+v, error %v", named, err)
	}
	if err := named.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-running.Exited():
		t.Fatal("a server named by URL was ended")
	default:
	}
	for variable, start := range map[string]func() (*Server, error){
		RedisURLVariable:    func() (*Server, error) { return Redis(ctx) },
		PostgresURLVariable: func() (*Server, error) { return Postgres(ctx) },
	} {
		t.Setenv(variable, "x://user:secret@:bad")
		if _, err := start(); err == nil || strings.Contains(err.Error(), "secret") {
			t.Fatalf("%s: error %v", variable, err)
		}
	}
}
