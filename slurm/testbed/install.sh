#!/usr/bin/env bash
# Install the Debian packages the testbed runs (root); does nothing where they are installed.
#   slurm/testbed/install.sh            install what is missing
#   slurm/testbed/install.sh --missing  print the command that would, and fail, when something is missing
set -euo pipefail
export PATH="$PATH:/usr/sbin:/sbin"
packages=(slurm-wlm munge slurmdbd slurm-wlm-mysql-plugin mariadb-server)

missing=()
for package in "${packages[@]}"; do
  [[ $(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
done
((${#missing[@]})) || exit 0

command="apt-get install --yes --no-install-recommends ${missing[*]}"
if [[ ${1:-} == --missing ]]; then
  echo "$command"
  exit 1
fi
if ((EUID)); then
  echo "error: packages are missing and only root can install them: sudo $command" >&2
  exit 2
fi
# In a container packages would start their services; the testbed brings up its own.
if [[ ! -e /usr/sbin/policy-rc.d ]]; then
  printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
  chmod 755 /usr/sbin/policy-rc.d
  trap 'rm -f /usr/sbin/policy-rc.d' EXIT
fi
echo "installing ${missing[*]}"
apt-get update --quiet=2
DEBIAN_FRONTEND=noninteractive $command --quiet=2 >/dev/null
