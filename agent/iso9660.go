package agent

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Where things are on an ISO 9660 volume, in bytes (ECMA-119, 8.4 and 9.1), whose sectors and
// logical blocks are of one size.
const (
	isoSector  = 2 << 10
	isoPrimary = 16 * isoSector
	// isoLabel and isoRoot are the volume's label and the record of its root directory.
	isoLabel       = isoPrimary + 40
	isoLabelLength = 32
	isoRoot        = isoPrimary + 156
	isoRootLength  = 34
	// isoName begins what a record has at its end.
	isoName = 33
	// isoDirectoryFlag is among a record's flags.
	isoDirectoryFlag = 2
	// maxDirectory bounds a directory.
	maxDirectory = 64 << 10
)

// isoVolumeLabel is the volume's label, empty where the file has none.
func isoVolumeLabel(volume io.ReaderAt) string {
	label := make([]byte, isoLabelLength)
	if _, err := volume.ReadAt(label, isoLabel); err != nil {
		return ""
	}
	return strings.TrimRight(string(label), " \x00")
}

// isoFile reads a file of a volume's root directory by its Rock Ridge name. A mount for it would be
// a tenth of what a clone does before its container runs: all of it happens for the first time, and
// without KVM QEMU has to translate it.
func isoFile(volume io.ReaderAt, name string, limit int64) ([]byte, error) {
	root := make([]byte, isoRootLength)
	if _, err := volume.ReadAt(root, isoRoot); err != nil {
		return nil, fmt.Errorf("ISO 9660: root directory: %w", err)
	}
	directory, err := isoExtent(volume, root, maxDirectory)
	if err != nil {
		return nil, fmt.Errorf("ISO 9660: root directory: %w", err)
	}
	record := isoFind(directory, name)
	if record == nil {
		return nil, fmt.Errorf("ISO 9660: no file %s", name)
	}
	text, err := isoExtent(volume, record, limit)
	if err != nil {
		return nil, fmt.Errorf("ISO 9660: %s: %w", name, err)
	}
	return text, nil
}

// isoExtent reads what a directory record stands for.
func isoExtent(volume io.ReaderAt, record []byte, limit int64) ([]byte, error) {
	block, size := binary.LittleEndian.Uint32(record[2:]), int64(binary.LittleEndian.Uint32(record[10:]))
	if size > limit {
		return nil, fmt.Errorf("it is larger than %d bytes", limit)
	}
	extent := make([]byte, size)
	n, err := volume.ReadAt(extent, int64(block)*isoSector)
	if errors.Is(err, io.EOF) && int64(n) == size {
		err = nil
	}
	return extent, err
}

// isoFind gives the record of a file by its Rock Ridge name, nil without. A record is in one
// sector, and what remains of it is zero.
func isoFind(directory []byte, name string) []byte {
	for len(directory) > 0 {
		length := int(directory[0])
		if length == 0 {
			directory = directory[1:]
			continue
		}
		if length <= isoName || length > len(directory) {
			return nil
		}
		record := directory[:length]
		if record[25]&isoDirectoryFlag == 0 && rockRidgeName(record) == name {
			return record
		}
		directory = directory[length:]
	}
	return nil
}

// rockRidgeName is the one in a record's NM entry (IEEE P1282, 4.1.4), which follows the padded
// name of ISO 9660 among others (IEEE P1281, 4), empty without.
func rockRidgeName(record []byte) string {
	begin := isoName + int(record[32])
	begin += begin % 2
	for begin+4 <= len(record) {
		length := int(record[begin+2])
		if length < 4 || begin+length > len(record) {
			return ""
		}
		if string(record[begin:begin+2]) == "NM" && length > 5 {
			return string(record[begin+5 : begin+length])
		}
		begin += length
	}
	return ""
}
