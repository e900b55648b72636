package disk

import (
	"encoding/binary"
	"fmt"
	"os"

	"github.com/vmruntime/vmruntime/protocol"
)

// Types of partitions in an MBR.
const (
	espType   = 0xef // what UEFI starts from
	dataType  = 0xda // no file system
	linuxType = 0x83
)

const sector = 512

// A partition is an entry of the table.
type partition struct {
	kind byte
	// active is what a BIOS starts from.
	active bool
	protocol.Extent
}

// mbrFile starts the active partition; it is at most 440 bytes.
const mbrFile = "/usr/lib/syslinux/mbr/mbr.bin"

// masterBootRecord is the first sector (UEFI specification, 5.2.1).
func masterBootRecord(id uint32, table []partition) ([]byte, error) {
	code, err := os.ReadFile(mbrFile)
	if err != nil {
		return nil, fmt.Errorf("%w: install syslinux-common", err)
	}
	record := make([]byte, sector)
	copy(record[:440], code)
	binary.LittleEndian.PutUint32(record[440:], id)
	for i, p := range table {
		entry := record[446+16*i:]
		if p.active {
			entry[0] = 0x80
		}
		// Cylinders, heads and sectors that say: look at the other numbers.
		copy(entry[1:4], "\xfe\xff\xff")
		entry[4] = p.kind
		copy(entry[5:8], "\xfe\xff\xff")
		start, size := p.Offset/sector, p.Size/sector
		if start+size >= 1<<32 {
			return nil, fmt.Errorf("partition %d ends beyond 2 TiB, which is what an MBR can tell: use a smaller --size", i+1)
		}
		binary.LittleEndian.PutUint32(entry[8:], uint32(start))
		binary.LittleEndian.PutUint32(entry[12:], uint32(size))
	}
	copy(record[510:], "\x55\xaa")
	return record, nil
}
