package day07

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/nexuscore-labs/nexus/reports"
	"github.com/nexuscore-labs/nexus/scenarios"
	"github.com/nexuscore-labs/nexus/systems/recordserver"
	"github.com/nexuscore-labs/nexus/systems/recordstores/bboltstore"
	"github.com/nexuscore-labs/nexus/systems/recordstores/etcdwal"
	"github.com/nexuscore-labs/nexus/systems/recordstores/fsyncappend"
	"github.com/nexuscore-labs/nexus/systems/recordstores/jetstream"
	"github.com/nexuscore-labs/nexus/systems/recordstores/pebblestore"
	"github.com/nexuscore-labs/nexus/systems/recordstores/seglogstore"
	"github.com/nexuscore-labs/nexus/systems/recordstores/tenantfiles"
	"github.com/nexuscore-labs/nexus/systems/recordstores/wasmstore"
	"github.com/nexuscore-labs/nexus/systems/seglog"
	"github.com/nexuscore-labs/nexus/systems/seglog/ringserver"
)

// contender is one entry of the lab: how it serves, and how the oracle reads
// back what it kept.
type contender struct {
	scenarios.Contender
	scan scanner
}

// socketName and storeName are what a contender makes in its folder.
const (
	socketName = "s"
	storeName  = "store"
)

// contenders are all of the lab's. Every one acknowledges a record only when a
// power cut would no longer take it.
func contenders() []contender {
	return []contender{
		ringContender(),
		storeContender("seglog-go", reports.RoleSubject, "the same log behind its Go API and the plain Go server that baselines and peers use",
			"one fdatasync for all records that wait", seglogstore.Version, open(seglogstore.Open), seglogstore.Scan),
		storeContender("seglog-wasm", reports.RoleSubject, "seglog-go, with each record validated and framed in its tenant's own Wasm guest first",
			"one fdatasync for all records that wait", wasmstore.Version, open(wasmstore.Open), wasmstore.Scan),
		storeContender("fsync-append", reports.RoleBaseline, "one shared file, O_APPEND, write and fsync for every record",
			"an fsync of its own", fsyncappend.Version, open(fsyncappend.Open), fsyncappend.Scan),
		storeContender("tenant-files", reports.RoleBaseline, "a goroutine and a file for each tenant, write and fdatasync for every record",
			"an fdatasync of its own", tenantfiles.Version, open(tenantfiles.Open), tenantfiles.Scan),
		storeContender("pebble", reports.RolePeer, "Pebble, one batch for each record, committed with pebble.Sync (its WAL groups them)",
			"a WAL sync", pebblestore.Version, open(pebblestore.Open), pebblestore.Scan),
		storeContender("bbolt", reports.RolePeer, "bbolt, records put with DB.Batch",
			"an fdatasync of the transaction", bboltstore.Version, open(bboltstore.Open), bboltstore.Scan),
		storeContender("jetstream", reports.RolePeer, "embedded NATS JetStream, file store with SyncAlways, in-process client",
			"a publish acknowledgement", jetstream.Version, open(jetstream.Open), jetstream.Scan),
		storeContender("etcd-wal", reports.RolePeer, "etcd's WAL package, waiting entries saved together as its raft loop does",
			"an fdatasync of the batch", etcdwal.Version, open(etcdwal.Open), etcdwal.Scan),
	}
}

// opener opens a store in an existing folder.
type opener func(dir string) (recordserver.Store, error)

// open gives a store's own Open the common type.
func open[S recordserver.Store](openStore func(dir string) (S, error)) opener {
	return func(dir string) (recordserver.Store, error) { return openStore(dir) }
}

// storeContender is a store behind the plain Go server.
func storeContender(name, role, doc, durability string, version func() string, openStore opener, scan scanner) contender {
	return contender{
		Contender: scenarios.Contender{
			Name: name, Role: role, Doc: doc, Durability: durability, Version: version,
			Serve: func(ctx context.Context, env scenarios.ServeEnv) error {
				dir, err := storeDir(env.Dir)
				if err != nil {
					return err
				}
				store, err := openStore(dir)
				if err != nil {
					return fmt.Errorf("open %s: %w", name, err)
				}
				return recordserver.Serve(ctx, recordserver.Options{
					Network: env.Network, Address: address(env),
					Store: store, Ready: env.Ready, Stat: env.Stat,
				})
			},
		},
		scan: func(dir string, visit func(uint32, uint64, []byte) error) error {
			return scan(filepath.Join(dir, storeName), visit)
		},
	}
}

// ringContender is the subject: one thread, one ring for sockets and file.
func ringContender() contender {
	return contender{
		Contender: scenarios.Contender{
			Name: "seglog", Role: reports.RoleSubject,
			Doc:        "the segment log: one thread and one io_uring serve the sockets and commit groups of records",
			Durability: "one fdatasync for all records that wait",
			Version:    func() string { return "seglog, one ring for sockets and log" },
			Params:     map[string][]string{"commit": {"dsync", "linked"}, "segments": {"ahead", "reserved"}},
			Serve: func(ctx context.Context, env scenarios.ServeEnv) error {
				dir, err := storeDir(env.Dir)
				if err != nil {
					return err
				}
				delay, err := appendDelay(env.Params)
				if err != nil {
					return err
				}
				return ringserver.Serve(ctx, ringserver.Options{
					Network: env.Network, Address: address(env), Dir: dir,
					Disk:  seglog.DirOptions{Linked: env.Params["commit"] == "linked", Reserve: env.Params["segments"] == "reserved"},
					Log:   seglog.Options{AppendDelay: delay},
					Ready: env.Ready, Stats: env.Stat,
				})
			},
		},
		scan: func(dir string, visit func(uint32, uint64, []byte) error) error {
			return seglog.Scan(filepath.Join(dir, storeName), visit)
		},
	}
}

// appendDelay is the planted regression that params ask for: CPU time that every
// append then wastes.
func appendDelay(params map[string]string) (time.Duration, error) {
	text, planted := params["append_delay"]
	if !planted {
		return 0, nil
	}
	delay, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("param append_delay: %w", err)
	}
	return delay, nil
}

// address is where a contender listens: a socket in its folder, or any free
// port of the loopback interface.
func address(env scenarios.ServeEnv) string {
	if env.Network == "unix" {
		return filepath.Join(env.Dir, socketName)
	}
	return "127.0.0.1:0"
}

// storeDir makes the folder that holds nothing but the store.
func storeDir(dir string) (string, error) {
	path := filepath.Join(dir, storeName)
	if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("make the store's folder: %w", err)
	}
	return path, nil
}
