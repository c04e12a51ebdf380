package realserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"
)

// PostgresURLVariable names a PostgreSQL to use instead of a started one.
const PostgresURLVariable = "POSTGRES_URL"

// postgresUsers are whom a started server runs as when this process is root,
// which PostgreSQL refuses.
var postgresUsers = []string{"postgres", "nobody"}

// Postgres uses the server of POSTGRES_URL, or starts one with a fresh cluster.
// settings are "name=value", over PostgreSQL's defaults: it is as durable as
// anybody's unless they say otherwise.
func Postgres(ctx context.Context, settings ...string) (*Server, error) {
	if url := os.Getenv(PostgresURLVariable); url != "" {
		return namedPostgres(ctx, url)
	}
	path, err := program("postgresql", []string{"postgres"}, "/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin")
	if err != nil {
		return nil, err
	}
	return retry(ctx, func(port int) (*Server, error) { return startPostgres(ctx, path, port, settings) })
}

func namedPostgres(ctx context.Context, url string) (*Server, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("%s can't be read", PostgresURLVariable) // err quotes the URL
	}
	s := &Server{URL: url, Address: net.JoinHostPort(config.Host, strconv.Itoa(int(config.Port)))}
	if s.Version, err = postgresVersion(ctx, url); err != nil {
		return nil, fmt.Errorf("ask the PostgreSQL of %s: %w", PostgresURLVariable, err)
	}
	return s, nil
}

func startPostgres(ctx context.Context, path string, port int, settings []string) (*Server, error) {
	dir, remove, err := temporary("", "postgres")
	if err != nil {
		return nil, err
	}
	s := &Server{
		Address: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), Managed: true,
		stop: syscall.SIGINT, clean: remove, // "fast" shutdown (postgres(1))
	}
	s.URL = "postgres://postgres@" + s.Address + "/postgres?sslmode=disable"
	if err := s.runPostgres(ctx, path, dir, port, settings); err != nil {
		return nil, errors.Join(err, remove())
	}
	err = s.await(ctx, func(ctx context.Context) error {
		s.Version, err = postgresVersion(ctx, s.URL)
		return err
	})
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Server) runPostgres(ctx context.Context, path, dir string, port int, settings []string) error {
	as, err := unprivileged(dir)
	if err != nil {
		return err
	}
	data := filepath.Join(dir, "data")
	initdb := exec.CommandContext(ctx, filepath.Join(filepath.Dir(path), "initdb"),
		"--pgdata", data, "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
	initdb.SysProcAttr, initdb.Dir = &syscall.SysProcAttr{Credential: as}, dir
	if out, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("make a PostgreSQL cluster: %w: %s", err, out)
	}
	args := []string{"-D", data, "-h", "127.0.0.1", "-p", strconv.Itoa(port), "-k", dir}
	for _, setting := range settings {
		args = append(args, "-c", setting)
	}
	command := exec.Command(path, args...)
	command.SysProcAttr, command.Dir = &syscall.SysProcAttr{Credential: as}, dir
	return s.start(command)
}

// unprivileged gives dir to the user that PostgreSQL is to run as; nil if this
// process is not root.
func unprivileged(dir string) (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range postgresUsers {
		account, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(account.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(account.Gid, 10, 32)
		if err := errors.Join(uidErr, gidErr); err != nil {
			return nil, fmt.Errorf("user %s: %w", name, err)
		}
		if err := os.Chown(dir, int(uid), int(gid)); err != nil {
			return nil, fmt.Errorf("give %s to %s: %w", dir, name, err)
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid), NoSetGroups: true}, nil
	}
	return nil, fmt.Errorf("realserver: none of the users %v exists to run PostgreSQL", postgresUsers)
}

func postgresVersion(ctx context.Context, url string) (string, error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	var version string
	if err := conn.QueryRow(ctx, "SHOW server_version").Scan(&version); err != nil {
		return "", err
	}
	version, _, _ = strings.Cut(version, " ")
	return "PostgreSQL " + version, nil
}
