package surreal

import (
	"context"
	"crypto/sha256"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
)

// The bridge and the list of what it needs, down to the hashes.
//
//go:embed bridge/bridge.mjs bridge/cbor.mjs bridge/package.json bridge/package-lock.json
var bridge embed.FS

// completeName marks a folder in which everything is.
const completeName = "complete"

// installDir is the folder in the user's cache for this version of the bridge.
func installDir() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache folder: %w", err)
	}
	hash := sha256.New()
	for _, name := range bridgeFiles {
		text, err := bridge.ReadFile("bridge/" + name)
		if err != nil {
			return "", fmt.Errorf("read the bridge: %w", err)
		}
		hash.Write(text)
	}
	return filepath.Join(cache, "nexus", fmt.Sprintf("surreal-%x", hash.Sum(nil)[:8])), nil
}

var bridgeFiles = []string{"bridge.mjs", "cbor.mjs", "package.json", "package-lock.json"}

// ErrNotInstalled says that the embedded engine is not here.
var ErrNotInstalled = errors.New("SurrealDB's embedded engine is not installed: run nexus setup --for cdc")

// Installed returns nil if the embedded engine can be started.
func Installed() error {
	dir, err := installDir()
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, completeName)); errors.Is(err, fs.ErrNotExist) {
		return ErrNotInstalled
	} else if err != nil {
		return fmt.Errorf("look for SurrealDB's embedded engine: %w", err)
	}
	if _, err := exec.LookPath("node"); err != nil {
		return fmt.Errorf("%w (node is not on PATH)", ErrNotInstalled)
	}
	return nil
}

// Install puts the engine and the bridge into the user's cache, through npm,
// whose lock file pins every package by its hash. It does nothing when all is
// there, and can be repeated after any interruption. out hears what is done.
func Install(ctx context.Context, out io.Writer) error {
	if Installed() == nil {
		return nil
	}
	npm, err := exec.LookPath("npm")
	if err != nil {
		return fmt.Errorf("install SurrealDB's embedded engine: npm is not on PATH: %w", err)
	}
	dir, err := installDir()
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "setup: will install SurrealDB's engine (npm @surrealdb/node, some 160 MB) in %s\n", dir)
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return fmt.Errorf("install SurrealDB's embedded engine: %w", err)
	}
	half, err := os.MkdirTemp(filepath.Dir(dir), "surreal-half-")
	if err != nil {
		return fmt.Errorf("install SurrealDB's embedded engine: %w", err)
	}
	defer os.RemoveAll(half)
	for _, name := range bridgeFiles {
		text, err := bridge.ReadFile("bridge/" + name)
		if err != nil {
			return fmt.Errorf("read the bridge: %w", err)
		}
		if err := os.WriteFile(filepath.Join(half, name), text, 0o644); err != nil {
			return fmt.Errorf("install SurrealDB's embedded engine: %w", err)
		}
	}
	cmd := exec.CommandContext(ctx, npm, "ci", "--legacy-peer-deps", "--ignore-scripts", "--no-audit", "--no-fund")
	cmd.Dir, cmd.Stdout, cmd.Stderr = half, out, out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("install SurrealDB's embedded engine: npm ci: %w", err)
	}
	return publish(half, dir)
}

// publish makes a finished folder the installed one.
func publish(half, dir string) error {
	if err := os.WriteFile(filepath.Join(half, completeName), nil, 0o644); err != nil {
		return fmt.Errorf("install SurrealDB's embedded engine: %w", err)
	}
	if err := os.RemoveAll(dir); err != nil { // a half that an older way of installing left
		return fmt.Errorf("install SurrealDB's embedded engine: %w", err)
	}
	if err := os.Rename(half, dir); err != nil {
		return fmt.Errorf("install SurrealDB's embedded engine: %w", err)
	}
	return nil
}
