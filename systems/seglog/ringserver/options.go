// Package ringserver serves a segment log over the project's frame protocol
// from one thread with one io_uring for sockets and file: receive, parse, stage
// into the open batch, write and sync it linked, and answer everything that
// became durable with one send per connection.
//
// The thread never waits for the disk on the append path. While a batch is
// being committed the next one fills from whatever arrives, so the batch size
// follows the load by itself; it is written while the one before is under way as
// soon as it holds half as much. Making segments ahead of need and retention run
// on goroutines of their own and report through an eventfd.
//
// KindRead and KindTail read through the page cache on the same thread: a read
// that misses it delays the others by one disk access.
//
// Memory is bounded: connections × (input + output limit), three staging buffers,
// one ring of receive buffers. A connection that doesn't read its answers is
// not read from until it does, and closed after Options.StuckTimeout.
package ringserver

import (
	"fmt"
	"time"

	"github.com/nexuscore-labs/nexus/frame"
	"github.com/nexuscore-labs/nexus/systems/seglog"
)

// Options of one Serve.
type Options struct {
	Network string // tcp, unix or udp
	Address string // host:port (port 0: any free one), or the path of a socket
	Dir     string // the log's folder

	// Ready is called once with the address to connect to.
	Ready func(address string) error
	// Stats receives the counters at the end; the unit is the last word of each name.
	Stats func(name string, value float64)

	Log  seglog.Options
	Disk seglog.DirOptions

	ConnectionsMax int           // more are refused; default 1024
	OutputBytesMax int           // answers queued per connection before it is no longer read from; default 1 MiB
	InputBytesMax  int           // received and not yet handled per connection before receiving stops; default 256 KiB
	ReceiveBuffers int           // a power of two; default 256
	ReceiveBytes   int           // size of each; default 32 KiB
	StuckTimeout   time.Duration // a connection that takes no byte of its answers for so long is closed; default 30 s
	DrainTimeout   time.Duration // for finishing after ctx ended; default 5 s
}

func (o Options) withDefaults() (Options, error) {
	set := func(v *int, value int) {
		if *v == 0 {
			*v = value
		}
	}
	set(&o.ConnectionsMax, 1024)
	set(&o.OutputBytesMax, 1<<20)
	set(&o.InputBytesMax, 256<<10)
	set(&o.ReceiveBuffers, 256)
	set(&o.ReceiveBytes, 32<<10)
	if o.StuckTimeout == 0 {
		o.StuckTimeout = 30 * time.Second
	}
	if o.DrainTimeout == 0 {
		o.DrainTimeout = 5 * time.Second
	}
	set(&o.Log.BatchBytes, 1<<20)
	set(&o.Log.RecordBytesMax, min(256<<10, o.Log.BatchBytes/2))
	switch {
	case o.Network != "tcp" && o.Network != "unix" && o.Network != "udp":
		return o, fmt.Errorf("ringserver: network %q: want tcp, unix or udp", o.Network)
	case o.ConnectionsMax < 1 || o.ConnectionsMax > 1<<16:
		return o, fmt.Errorf("ringserver: ConnectionsMax %d out of range", o.ConnectionsMax)
	case o.OutputBytesMax < 4096 || o.InputBytesMax < 4096:
		return o, fmt.Errorf("ringserver: OutputBytesMax %d, InputBytesMax %d: at least 4096", o.OutputBytesMax, o.InputBytesMax)
	case o.Log.RecordBytesMax < 1 || o.Log.RecordBytesMax > frame.BodyLenMax:
		return o, fmt.Errorf("ringserver: RecordBytesMax %d out of range", o.Log.RecordBytesMax)
	}
	return o, nil
}
