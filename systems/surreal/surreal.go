// Package surreal starts a real SurrealDB for the labs, whichever can be had: a
// server by URL, the surreal program, or the engine that npm carries, behind a
// small bridge. All three speak the same protocol and are used through the
// official client.
package surreal

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"time"

	surrealdb "github.com/surrealdb/surrealdb.go"
)

// Kind says which SurrealDB serves.
type Kind string

// The kinds, in the order in which Start prefers them.
const (
	ByURL    Kind = "server by SURREALDB_URL"
	Program  Kind = "surreal program"
	Embedded Kind = "embedded engine behind the bridge"
)

// Environment variables of a server by URL.
const (
	URLVariable      = "SURREALDB_URL" // ws://host:port/rpc
	UserVariable     = "SURREALDB_USER"
	PasswordVariable = "SURREALDB_PASSWORD"
)

// startIn bounds how long a server may take to be ready, stopIn to close.
const (
	startIn = 30 * time.Second
	stopIn  = 10 * time.Second
)

// Options of Start.
type Options struct {
	// Dir is where the store keeps its data, and the owner's password for the next
	// start. A server by URL ignores it.
	Dir string
	// Only, if set, takes no other kind.
	Only Kind
	// SyncNever leaves it to the operating system when commits reach the disk.
	SyncNever bool
}

// Server is a SurrealDB. Its methods are safe for concurrent use, except that
// Stop, Kill and Start exclude each other.
type Server struct {
	Kind     Kind
	Version  string
	URL      string
	User     string
	Password string
	// Process is the server's process id, 0 for a server by URL.
	Process int
	// Library is the file that holds the server's RocksDB, empty where that is
	// unknown.
	Library string

	options Options
	child   *child
}

// ErrNone says that no SurrealDB can be had here.
var ErrNone = errors.New("no SurrealDB here: set SURREALDB_URL, put surreal on PATH, or run nexus setup --for cdc")

// Start brings a SurrealDB up.
func Start(ctx context.Context, options Options) (*Server, error) {
	s := &Server{options: options}
	wanted := func(k Kind) bool { return options.Only == "" || options.Only == k }
	if address := os.Getenv(URLVariable); address != "" && wanted(ByURL) {
		return s, s.byURL(ctx, address)
	}
	if program, err := exec.LookPath("surreal"); err == nil && wanted(Program) {
		s.Kind, s.Library = Program, program
		return s, s.Restart(ctx)
	}
	if wanted(Embedded) && Installed() == nil {
		s.Kind = Embedded
		return s, s.Restart(ctx)
	}
	return nil, ErrNone
}

func (s *Server) byURL(ctx context.Context, address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "ws" && u.Scheme != "wss" {
		return fmt.Errorf("%s: want ws://host:port/rpc, got %q", URLVariable, address)
	}
	s.Kind, s.URL = ByURL, strings.TrimSuffix(address, "/rpc")
	s.User, s.Password = os.Getenv(UserVariable), os.Getenv(PasswordVariable)
	return s.askVersion(ctx)
}

func (s *Server) askVersion(ctx context.Context) error {
	db, err := surrealdb.FromEndpointURLString(ctx, s.URL)
	if err != nil {
		return fmt.Errorf("connect to SurrealDB at %s: %w", s.URL, err)
	}
	version, err := db.Version(ctx)
	if err != nil {
		return errors.Join(fmt.Errorf("ask SurrealDB at %s for its version: %w", s.URL, err), db.Close(ctx))
	}
	s.Version = version.Version
	return db.Close(ctx)
}

// Restart starts the server again on the same data, after Stop or Kill.
func (s *Server) Restart(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startIn)
	defer cancel()
	switch s.Kind {
	case Program:
		return s.startProgram(ctx)
	case Embedded:
		return s.startBridge(ctx)
	}
	return fmt.Errorf("restart a %s: it is not ours", s.Kind)
}

// Connect signs in and selects a database, which is made if it is missing.
func (s *Server) Connect(ctx context.Context, namespace, database string) (*surrealdb.DB, error) {
	db, err := surrealdb.FromEndpointURLString(ctx, s.URL)
	if err != nil {
		return nil, fmt.Errorf("connect to SurrealDB at %s: %w", s.URL, err)
	}
	if err := s.enter(ctx, db, namespace, database); err != nil {
		return nil, errors.Join(err, db.Close(ctx))
	}
	return db, nil
}

func (s *Server) enter(ctx context.Context, db *surrealdb.DB, namespace, database string) error {
	if s.User != "" {
		if _, err := db.SignIn(ctx, map[string]any{"user": s.User, "pass": s.Password}); err != nil {
			return fmt.Errorf("sign in to SurrealDB: %w", err)
		}
	}
	for _, name := range []string{namespace, database} {
		if !isName(name) {
			return fmt.Errorf("connect to SurrealDB: %q is no name for a namespace or a database", name)
		}
	}
	define := fmt.Sprintf("DEFINE NAMESPACE IF NOT EXISTS %s; USE NS %s; DEFINE DATABASE IF NOT EXISTS %s", namespace, namespace, database)
	if _, err := surrealdb.Query[any](ctx, db, define, nil); err != nil {
		return fmt.Errorf("make SurrealDB's database %s: %w", database, err)
	}
	if err := db.Use(ctx, namespace, database); err != nil {
		return fmt.Errorf("use SurrealDB's database %s: %w", database, err)
	}
	return nil
}

// isName keeps what is put into a statement to letters, digits and underscores.
func isName(name string) bool {
	if name == "" || len(name) > 63 {
		return false
	}
	for i, c := range []byte(name) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// Stop closes the store and ends the server. A server by URL stays.
func (s *Server) Stop() error {
	if s.child == nil {
		return nil
	}
	err := s.child.stop()
	s.child, s.Process = nil, 0
	return err
}

// Kill ends the server as a crash does.
func (s *Server) Kill() error {
	if s.child == nil {
		return errors.New("kill SurrealDB: it is not ours, or does not run")
	}
	err := s.child.kill()
	s.child, s.Process = nil, 0
	return err
}
