package surrealsource

import (
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"

	"github.com/surrealdb/surrealdb.go/pkg/models"

	"github.com/nexuscore-labs/nexus/components/delta"
	"github.com/nexuscore-labs/nexus/systems/surreal"
)

// ErrID says that a record's id is of a kind that this package does not carry:
// an array or an object.
var ErrID = errors.New("surrealsource: only numbers, texts and UUIDs are carried as ids")

// PointKey names a record for the sink: its table and its id, with the id's type,
// since "1" and 1 are two records.
func PointKey(k *surreal.Key) (string, error) {
	switch k.Kind {
	case surreal.IntID:
		return k.Table + ":i:" + strconv.FormatInt(k.Int, 10), nil
	case surreal.StringID:
		return k.Table + ":s:" + k.Text, nil
	case surreal.UUIDID:
		return k.Table + ":u:" + hex.EncodeToString(k.UUID[:]), nil
	}
	return "", fmt.Errorf("%w: %s of table %s", ErrID, k.ID(), k.Table)
}

// pointKeyOf is PointKey of what the client calls a record.
func pointKeyOf(id *models.RecordID) (string, error) {
	if id == nil {
		return "", fmt.Errorf("%w: none", ErrID)
	}
	k := surreal.Key{Table: string(id.Table)}
	switch v := id.ID.(type) {
	case int64:
		k.Kind, k.Int = surreal.IntID, v
	case uint64:
		k.Kind, k.Int = surreal.IntID, int64(v)
	case int:
		k.Kind, k.Int = surreal.IntID, int64(v)
	case string:
		k.Kind, k.Text = surreal.StringID, v
	case models.UUID:
		k.Kind, k.UUID = surreal.UUIDID, v.UUID
	case *models.UUID:
		k.Kind, k.UUID = surreal.UUIDID, v.UUID
	default:
		return "", fmt.Errorf("%w: %T of table %s", ErrID, id.ID, id.Table)
	}
	return PointKey(&k)
}

// recordOf is the way back, for reading the record.
func recordOf(point string) (models.RecordID, error) {
	table, rest, found := strings.Cut(point, ":")
	if !found || len(rest) < 2 || rest[1] != ':' || table == "" {
		return models.RecordID{}, fmt.Errorf("%w: %q", ErrID, point)
	}
	switch id := rest[2:]; rest[0] {
	case 'i':
		n, err := strconv.ParseInt(id, 10, 64)
		if err != nil {
			return models.RecordID{}, fmt.Errorf("%w: %q", ErrID, point)
		}
		return models.NewRecordID(table, n), nil
	case 's':
		return models.NewRecordID(table, id), nil
	case 'u':
		raw, err := hex.DecodeString(id)
		if err != nil || len(raw) != 16 {
			return models.RecordID{}, fmt.Errorf("%w: %q", ErrID, point)
		}
		u := models.UUID{}
		copy(u.UUID[:], raw)
		return models.NewRecordID(table, u), nil
	}
	return models.RecordID{}, fmt.Errorf("%w: %q", ErrID, point)
}

// deltaKey is a 128-bit hash of a point's collection and key.
func deltaKey(point string) delta.Key {
	h := fnv.New128a()
	_, _ = h.Write([]byte(point))
	sum := h.Sum(nil)
	var k delta.Key
	for i := range 8 {
		k.High = k.High<<8 | uint64(sum[i])
		k.Low = k.Low<<8 | uint64(sum[8+i])
	}
	return k
}
