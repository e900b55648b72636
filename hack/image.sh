#!/usr/bin/env bash
# hack/image.sh NAME DIR [CONFIG]: packs the root filesystem DIR into
# build/images/NAME.tar, the image NAME:latest in the format of docker save, which
# docker, podman and ctr load alike. CONFIG is the JSON of an image's "config", such
# as {"Cmd": ["sh"]}. It is made once; remove it for a fresh one.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=hack/lib.sh
. hack/lib.sh

[ $# -ge 2 ] || die "usage: $0 NAME DIR [CONFIG]"
name=$1 dir=$2 config=${3-'{"Cmd": ["sh"]}'}
out=build/images/$name.tar

[ ! -e "$out" ] || exit 0
mkdir -p build/images
work=$(mktemp -d "build/images/$name.XXXXXX")
trap 'rm -rf "$work"' EXIT
# Engines fill /dev, /proc and /sys.
tar --numeric-owner --exclude='./dev/*' --exclude='./proc/*' --exclude='./sys/*' -C "$dir" -cf "$work/layer.tar" .
jq -n --argjson config "$config" --arg layer "sha256:$(sha256sum <"$work/layer.tar" | cut -d' ' -f1)" '{
	created: "1970-01-01T00:00:00Z", architecture: "amd64", os: "linux",
	config: ({Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]} + $config),
	rootfs: {type: "layers", diff_ids: [$layer]}, history: [{created: "1970-01-01T00:00:00Z"}]}' >"$work/config.json"
jq -n --arg tag "$name:latest" '[{Config: "config.json", RepoTags: [$tag], Layers: ["layer.tar"]}]' >"$work/manifest.json"
tar -C "$work" -cf "$work/image.tar" manifest.json config.json layer.tar
mv "$work/image.tar" "$out"
say "$out from $dir"
