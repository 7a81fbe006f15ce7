"""The checks of a bundle with standard tools only, as a POSIX shell script to read and to run.

Needs coreutils, find, sed, grep, openssl and (exports) xxd. Certificates are judged at the time of the token, so that
the script still passes after they have expired; it does not look at revocation lists or into the records one by one.
"""

from __future__ import annotations

from typing import Final

_HEAD: Final = r"""#!/bin/sh
# Checks a Fieldgate evidence bundle with standard tools. Usage: sh recipe.sh FOLDER CA.pem [TSA-CA.pem]
# (a .tar: tar -xf it first). CA.pem is the authority that you trust; it must not come out of the bundle itself.
set -eu
CA=$(realpath "$2"); TSA=$(realpath "${3:-$2}"); cd "$1"
fail() { echo "FAILED: $1"; exit 1; }
W=$(mktemp -d); trap 'rm -rf "$W"' EXIT
cms() { # signature, signed file; further words go to openssl; leaves the certificate in $W/signer
  s=$1; f=$2; shift 2
  openssl cms -verify -binary -inform DER -in "$s" -content "$f" -CAfile "$CA" -signer "$W/signer" "$@" \
    -out /dev/null 2>/dev/null
}
names() { # the names in the certificate that signed, one per line: CN=... OU=...
  openssl x509 -in "$W/signer" -noout -subject -nameopt multiline,utf8 |
    sed -n 's/^ *commonName *= /CN=/p; s/^ *organizationalUnitName *= /OU=/p'
}
by_gateway() { # seal: the certificate that signed is of the gateway that it names
  id=$(sed -n 's,^origin \(.*\)/evidence$,\1,p' "$1")
  [ "$(names | sort)" = "$(printf 'CN=%s\nOU=Fieldgate gateway' "$id")" ]
}
by_platform() { [ "$(names | grep '^OU=')" = "OU=Fieldgate platform receipt" ]; }
at_token() { # seconds since 1970 of a token's time; nothing where there is no token
  [ -f "$1" ] || return 0
  t=$(openssl ts -reply -in "$1" -text 2>/dev/null | sed -n 's/^Time stamp: //p')
  date -u -d "$t" +%s
}
signed() { # signature, signed file, token that says when
  t=$(at_token "$3")
  cms "$1" "$2" ${t:+-attime "$t"} || cms "$1" "$2" || fail "$1 is not a valid signature over $2"
}
stamped() { # signature file and its token
  if [ -f "$2" ]; then
    openssl ts -verify -attime "$(at_token "$2")" -data "$1" -in "$2" -CAfile "$TSA" >/dev/null 2>&1 ||
      fail "$2 is not a token of this authority over $1"
    echo "5 $1 existed not later than $(openssl ts -reply -in "$2" -text 2>/dev/null | sed -n 's/^Time stamp: //p')"
  else
    echo "5 $1: not stamped"
  fi
}
receipt() { # receipt, seal
  if [ -f "$1.txt" ]; then
    cms "$1.txt.p7s" "$1.txt" || cms "$1.txt.p7s" "$1.txt" -no_check_time || fail "$1.txt is not signed by the platform"
    by_platform || fail "$1.txt is signed by somebody else than the platform"
    [ "$(sha256sum < "$2" | cut -d' ' -f1)" = "$(sed -n 's/^seal-sha256 //p' "$1.txt")" ] ||
      fail "$1.txt is for another seal"
    [ "$(sha256sum < "$1-artifacts.txt" | cut -d' ' -f1)" = "$(sed -n 's/^artifacts-sha256 //p' "$1.txt")" ] ||
      fail "$1-artifacts.txt is not the signed list"
    echo "6 receipt of $(sed -n 's/^received-utc //p' "$1.txt")"
  else
    echo "6 $2: not receipted"
  fi
}
sha256sum -c --quiet --strict tagmanifest-sha256.txt || fail "a file of the packaging was changed"
sha256sum -c --quiet --strict manifest-sha256.txt || fail "a file of the evidence was changed"
echo "1 hashes ok"
[ "$(find data -type f | wc -l)" = "$(wc -l < manifest-sha256.txt)" ] || fail "files in data that are in no manifest"
[ "$(find . -type f ! -path './data/*' | wc -l)" = "$(($(wc -l < tagmanifest-sha256.txt) + 2))" ] ||
  fail "files that are in no manifest"
[ -z "$(find . ! -type f ! -type d)" ] || fail "links or special files"
[ -z "$(sed 's/^[0-9a-f]*  //' manifest-sha256.txt tagmanifest-sha256.txt | sort | uniq -d)" ] ||
  fail "a manifest names a file twice"
echo "2 no extra files, no links"
sed -n '/  data\/artifacts\//p' manifest-sha256.txt > "$W/artifacts"
[ -z "$(sed '/^\([0-9a-f]\{64\}\)  data\/artifacts\/\1\(\.[a-z0-9]*\)\{0,1\}$/d' "$W/artifacts")" ] ||
  fail "the content of an artifact is not what its name says"
find data -maxdepth 1 -type f -exec cat {} + | grep -o '"sha256":"[0-9a-f]*"' | cut -d'"' -f4 > "$W/named" || true
{ cut -c1-64 "$W/artifacts"; sed -n 's/^Pending-Artifact: \([0-9a-f]*\) .*/\1/p' bag-info.txt; } | sort > "$W/there"
[ -z "$(grep -vxF -f "$W/named" "$W/there")" ] || fail "an artifact that no record names"
[ -z "$(uniq -d "$W/there")" ] || fail "an artifact is there twice, or is inside and announced as pending"
"""

_BATCH: Final = r"""signed tagmanifest-sha256.txt.p7s tagmanifest-sha256.txt proof/seal.txt.p7s.tsr
by_gateway proof/seal.txt || by_platform || fail "packed by somebody else than the gateway or the platform"
echo "3 packaging signature ok"
signed proof/seal.txt.p7s proof/seal.txt proof/seal.txt.p7s.tsr
by_gateway proof/seal.txt || fail "the seal is signed by somebody else than the gateway that it names"
echo "4 seal signature ok: $(sed -n 's/^origin //p' proof/seal.txt), records $(sed -n 's/^range //p' proof/seal.txt)"
stamped proof/seal.txt.p7s proof/seal.txt.p7s.tsr
receipt proof/receipt proof/seal.txt
[ "$(sha256sum < data/records.jsonl | cut -d' ' -f1)" = "$(sed -n 's/^records-sha256 //p' proof/seal.txt)" ] ||
  fail "the records are not those that were sealed"
set -- $(sed -n 's/^range //p' proof/seal.txt)
[ "$(wc -l < data/records.jsonl)" = "$(($2 - $1))" ] || fail "there are not as many records as were sealed"
[ "$(wc -l < "$W/there")" = "$(sed -n 's/^artifacts \([0-9]*\) .*/\1/p' proof/seal.txt)" ] ||
  fail "there are not as many artifacts as were sealed"
echo "7 the records are exactly those that were sealed, none missing"
[ "$(sed -n 's/^root //p' proof/seal.txt)" = "$(sed -n '2,3p' proof/checkpoint | tr '\n' ' ' | sed 's/ $//')" ] ||
  fail "the checkpoint is not that of the seal"
echo "8 the checkpoint is that of the seal"
"""

_EXPORT: Final = r"""for seal in proof/seal-*.txt; do
  end=${seal#proof/seal-}; end=${end%.txt}
  signed tagmanifest-sha256.txt.p7s tagmanifest-sha256.txt "$seal.p7s.tsr"
  by_gateway "$seal" || by_platform || fail "packed by somebody else than the gateway or the platform"
  echo "3 packaging signature ok"
  signed "$seal.p7s" "$seal" "$seal.p7s.tsr"
  by_gateway "$seal" || fail "the seal is signed by somebody else than the gateway that it names"
  echo "4 seal signature ok: $(sed -n 's/^origin //p' "$seal"), records $(sed -n 's/^range //p' "$seal")"
  stamped "$seal.p7s" "$seal.p7s.tsr"
  receipt "proof/receipt-$end" "$seal"
done
h() { openssl dgst -sha256 -binary | xxd -p -c 64; }
for record in data/record-*.json; do # RFC 9162 section 2.1.3.2: from the record up to the signed root
  i=${record#data/record-}; i=${i%.json}; p=proof/record-$i.tlog-proof
  [ "$(sed -n 's/^index //p' "$p")" = "$i" ] || fail "$p is for another record"
  size=$(sed -n '/^$/,$p' "$p" | sed -n 3p); root=$(sed -n '/^$/,$p' "$p" | sed -n 4p)
  [ "$(sed -n 's/^root //p' "proof/seal-$size.txt")" = "$size $root" ] || fail "$p leads to no signed root"
  n=$({ printf '\000'; cat "$record"; } | h); fn=$i; sn=$((size - 1))
  for line in $(sed -n '3,/^$/p' "$p" | sed '/^$/d'); do
    x=$(printf %s "$line" | openssl base64 -d -A | xxd -p -c 64)
    if [ $((fn & 1)) = 1 ] || [ "$fn" = "$sn" ]; then
      n=$(printf '01%s%s' "$x" "$n" | xxd -r -p | h)
      while [ $((fn & 1)) = 0 ] && [ "$fn" != 0 ]; do fn=$((fn >> 1)); sn=$((sn >> 1)); done
    else
      n=$(printf '01%s%s' "$n" "$x" | xxd -r -p | h)
    fi
    fn=$((fn >> 1)); sn=$((sn >> 1))
  done
  [ "$(printf %s "$n" | xxd -r -p | openssl base64 -A)" = "$root" ] && [ "$sn" = 0 ] ||
    fail "$record is not what was sealed under its number"
  echo "7 record $i is leaf $i of the signed root"
done
"""

_TAIL: Final = r"""sed -n 's/^Pending-Artifact: /- not inside, to be fetched separately: /p' bag-info.txt
echo "all checks passed: not altered since it was sealed; see 5 and 6 for who says when that was"
"""


def recipe() -> str:
    """The script; it reads from bag-info.txt whether it looks at a batch or at an export of single records."""
    kind = """if [ "$(sed -n 's/^Bundle-Type: //p' bag-info.txt)" = batch ]; then\n"""
    return _HEAD + kind + _BATCH + "else\n" + _EXPORT + "fi\n" + _TAIL
