package rocksprobe

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"math"
	"strings"
)

// Bounds of a Route; TableLenMax is of rocks.h.
const (
	TableLenMax      = 63
	CollectionLenMax = 127
	EndpointLenMax   = 255
	RoutesMax        = 4096
	// revisionsMax is how many routes are remembered by revision: those in force,
	// and as many older ones for the changes that are still on their way.
	revisionsMax = 2 * RoutesMax
)

// Route says where the changes of one table go, and which of them matter.
type Route struct {
	Table string `json:"table"`
	// Database, if set, limits the route to the table of one database, and goes
	// before a route without.
	Database   *DatabaseID `json:"database,omitempty"`
	Collection string      `json:"collection"`
	Theta      float32     `json:"theta"`              // cosine distance from which a change matters, 0 to 2
	Endpoint   string      `json:"endpoint,omitempty"` // of the embedding model; empty: records carry vectors
	// Revision is larger for what was set later; Set gives it.
	Revision uint32 `json:"revision"`
}

// DatabaseID names a database by the engine's own numbers, as its keys do.
type DatabaseID struct {
	Namespace uint32 `json:"namespace"`
	Database  uint32 `json:"database"`
}

// anyID stands for any number in the kernel's table.
const anyID = math.MaxUint32

// Check says what is wrong with a route.
func (r Route) Check() error {
	switch {
	case r.Table == "" || len(r.Table) > TableLenMax:
		return fmt.Errorf("route: a table's name has 1 to %d bytes, %q has %d", TableLenMax, r.Table, len(r.Table))
	case r.Collection == "" || len(r.Collection) > CollectionLenMax:
		return fmt.Errorf("route of %s: a collection's name has 1 to %d bytes, %q has %d", r.Table, CollectionLenMax, r.Collection, len(r.Collection))
	case len(r.Endpoint) > EndpointLenMax:
		return fmt.Errorf("route of %s: an endpoint has up to %d bytes, this one has %d", r.Table, EndpointLenMax, len(r.Endpoint))
	case strings.ContainsRune(r.Table+r.Collection+r.Endpoint, 0):
		return fmt.Errorf("route of %q: a name with a zero byte", r.Table)
	case math.IsNaN(float64(r.Theta)) || r.Theta < 0 || r.Theta > 2:
		return fmt.Errorf("route of %s: theta is a cosine distance from 0 to 2, not %v", r.Table, r.Theta)
	case r.Database != nil && (r.Database.Namespace == anyID || r.Database.Database == anyID):
		return fmt.Errorf("route of %s: no namespace or database has the number %d", r.Table, uint32(anyID))
	}
	return nil
}

// tableKey mirrors struct table_key of rocks.h.
type tableKey struct {
	NamespaceID, DatabaseID uint32
	NameHash                uint64
}

func (r Route) key() tableKey {
	if r.Database == nil {
		return tableKey{anyID, anyID, TableHash(r.Table)}
	}
	return tableKey{r.Database.Namespace, r.Database.Database, TableHash(r.Table)}
}

// TableHash is what the kernel knows a table by: FNV-1a of its name, 64 bits.
func TableHash(name string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(name)) // never fails
	return h.Sum64()
}

// routeText is a value of routing_texts.
type routeText struct {
	Key        tableKey
	Theta      uint32
	Revision   uint32
	Table      [TableLenMax + 1]byte
	Collection [CollectionLenMax + 1]byte
	Endpoint   [EndpointLenMax + 1]byte
}

func (t *routeText) route() Route {
	r := Route{Table: text(t.Table[:]), Collection: text(t.Collection[:]), Theta: math.Float32frombits(t.Theta),
		Endpoint: text(t.Endpoint[:]), Revision: t.Revision}
	if t.Key.NamespaceID != anyID {
		r.Database = &DatabaseID{t.Key.NamespaceID, t.Key.DatabaseID}
	}
	return r
}

func text(b []byte) string {
	b, _, _ = bytes.Cut(b, []byte{0})
	return string(b)
}
