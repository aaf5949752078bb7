"""Compares the local Proxmox with fakepve: the schema of each call, the words of refusals, the types of answers.

Called by deploy/pve/compare with the schema of the local one and its node's environment.
"""

import asyncio
import json
import os
import shlex
import ssl
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request

from fakepve import FakePve
from fakepve import schema as theirs
from fakepve.certs import make_cert

# What came with Proxmox VE 9, which this stand-in is not.
NEWER = {'entrypoint', 'env', 'ha-managed'}
KINDS = ('type', 'enum', 'minimum', 'maximum', 'format', 'minLength', 'maxLength', 'requires')

NODE = os.environ['PVE_NODE']
TEMPLATE = os.environ['PVE_TEMPLATE']


def kind(prop):
    """What of a parameter's schema decides over a value."""
    known = {}
    for name in KINDS:
        if name in prop:
            value = prop[name]
            if name in ('minimum', 'maximum'):
                value = float(value)
            elif isinstance(value, dict):
                value = {key: kind(part) for key, part in value.items()}
            known[name] = value
    known['optional'] = bool(prop.get('optional'))
    return known


def compare_schema(ours):
    """The differences between our schema and the published one, as sentences."""
    paths = theirs.load().paths
    found = []
    for key, properties in ours.items():
        method, path = key.split(' ')
        call = paths.get(path, {}).get(method)
        if call is None:
            found.append(f'{key} is no call of Proxmox')
            continue
        published = call.get('parameters', {}).get('properties', {})
        for name in sorted((set(published) - NEWER) ^ set(properties)):
            found.append(f'{key}: {name} is {"missing" if name in published else "unknown to Proxmox"}')
        for name in sorted(set(published) & set(properties)):
            if kind(published[name]) != kind(properties[name]):
                found.append(f'{key}: {name} is {kind(properties[name])}, but Proxmox has {kind(published[name])}')
    return found


class Fake:
    """fakepve over HTTPS, as any client has it."""

    def __init__(self, pve):
        self.base = f'https://{pve.host}:{pve.port}/api2/json'
        self.context = ssl.create_default_context()
        self.context.check_hostname = False
        self.context.verify_mode = ssl.CERT_NONE
        self.headers = {}
        ticket = self.call('POST', '/access/ticket', {'username': 'root@pam', 'password': 'secret'})[1]
        self.headers = {'Cookie': f'PVEAuthCookie={ticket["ticket"]}', 'CSRFPreventionToken': ticket['CSRFPreventionToken']}

    def call(self, method, path, parameters):
        data = urllib.parse.urlencode(parameters).encode()
        url = self.base + path
        if method in ('GET', 'DELETE') and parameters:
            url, data = f'{url}?{data.decode()}', None
        request = urllib.request.Request(url, data if method in ('POST', 'PUT') else None, self.headers, method=method)
        try:
            with urllib.request.urlopen(request, context=self.context) as answer:
                return None, json.load(answer)['data']
        except urllib.error.HTTPError as error:
            body = json.loads(error.read() or b'{}')
            words = (body.get('message') or error.reason).strip()
            errors = body.get('errors') or {}
            lines = [words] + [f'{name}: {why}'.strip() for name, why in sorted(errors.items())]
            return '\n'.join(lines), None

    def refusal(self, method, path, parameters):
        """Why a call is refused, or why the task that it began has failed."""
        words, answer = self.call(method, path, parameters)
        if words is None and isinstance(answer, str) and answer.startswith('UPID:'):
            status = {'status': 'running'}
            while status['status'] == 'running':
                status = self.call('GET', f'/nodes/{NODE}/tasks/{urllib.parse.quote(answer)}/status', {})[1]
            words = None if status['exitstatus'] == 'OK' else status['exitstatus']
        return words


class Local:
    """The local node: the same calls by its programs, over SSH."""

    def run(self, words):
        line = ' '.join(shlex.quote(str(word)) for word in words)
        command = shlex.split(os.environ['PVE_ADMIN_SSH']) + [line]
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)

    def refusal(self, words):
        output = self.run(words)
        if output.returncode == 0:
            return None
        lines = [line for line in output.stderr.strip().splitlines() if line and not line.startswith(('pct ', 'pvesh '))]
        return '\n'.join(lines).removeprefix('400 ')


LXC = f'/nodes/{NODE}/lxc'
CREATE = {'ostemplate': TEMPLATE, 'rootfs': 'local-lvm:1', 'hostname': 'web'}


def options(parameters):
    return [word for name, value in parameters.items() for word in (f'--{name}', value)]


def create(vmid, **more):
    parameters = {**CREATE, **more}
    rest = {name.replace('_', '-'): value for name, value in parameters.items() if name != 'ostemplate'}
    words = ['pct', 'create', vmid, TEMPLATE, *options(rest)]
    return words, ('POST', LXC, {'vmid': vmid, 'ostemplate': TEMPLATE, **rest})


def act(name, vmid, call, **parameters):
    """A subcommand whose further words all are options."""
    method, path = call
    return ['pct', name, vmid, *options(parameters)], (method, f'{LXC}/{vmid}{path}', parameters)


def status(name, vmid):
    return act(name, vmid, ('POST', f'/status/{name}'))


def change(vmid, **parameters):
    return act('set', vmid, ('PUT', '/config'), **parameters)


def resize(vmid, disk, size):
    return ['pct', 'resize', vmid, disk, size], ('PUT', f'{LXC}/{vmid}/resize', {'disk': disk, 'size': size})


def snapshot(vmid, name):
    return ['pct', 'snapshot', vmid, name], ('POST', f'{LXC}/{vmid}/snapshot', {'snapname': name})


def rollback(vmid, name):
    return ['pct', 'rollback', vmid, name], ('POST', f'{LXC}/{vmid}/snapshot/{name}/rollback', {})


def delsnapshot(vmid, name):
    return ['pct', 'delsnapshot', vmid, name], ('DELETE', f'{LXC}/{vmid}/snapshot/{name}', {})


def destroy(vmid, **parameters):
    return act('destroy', vmid, ('DELETE', ''), **parameters)


def migrate(vmid, target, **parameters):
    words = ['pct', 'migrate', vmid, target, *options(parameters)]
    return words, ('POST', f'{LXC}/{vmid}/migrate', {'target': target, **parameters})


def config(vmid):
    return ['pct', 'config', vmid], ('GET', f'{LXC}/{vmid}/config', {})


VERBS = {'GET': 'get', 'POST': 'create', 'PUT': 'set', 'DELETE': 'delete'}


def api(method, path, **parameters):
    """A call by its path."""
    return ['pvesh', VERBS[method], path, *options(parameters)], (method, path, parameters)


def filtered(method, path, **parameters):
    """A call about the firewall of the first container."""
    return api(method, f'{LXC}/101/firewall{path}', **parameters)


# What is done on both, in this order. Either both refuse it in the same words, or both do it.
STEPS = [
    create(101), create(101), status('stop', 101), status('shutdown', 101), status('suspend', 101),
    resize(101, 'rootfs', '512M'), resize(101, 'rootfs', '1G'), resize(101, 'rootfs', 'x'), resize(101, 'mp0', '2G'),
    resize(101, 'rootfs', '+1G'),
    status('start', 101), status('start', 101), status('resume', 101), destroy(101),
    change(101), change(101, cores='x'), change(101, memory=1), change(101, hostname='a_b'), change(101, cores=2),
    change(101, net0='name=eth0,ip=1.2.3.4'), change(101, net0='bridge=vmbr0'), change(101, net0='name=eth0,foo=1'),
    change(101, delete='rootfs'),
    snapshot(101, 'one'), snapshot(101, 'one'), snapshot(101, 'current'), snapshot(101, '1'),
    rollback(101, 'none'), delsnapshot(101, 'none'), delsnapshot(101, 'one'),
    migrate(101, NODE), migrate(101, 'nowhere', restart=1),
    filtered('POST', '/ipset', name='one'), filtered('POST', '/ipset', name='one'), filtered('POST', '/ipset', name='1'),
    filtered('POST', '/ipset/one', cidr='10.0.0.1'), filtered('POST', '/ipset/one', cidr='10.0.0.1'),
    filtered('POST', '/ipset/one', cidr='x y'), filtered('POST', '/ipset/none', cidr='10.0.0.1'), filtered('GET', '/ipset/none'),
    filtered('DELETE', '/ipset/one/10.0.0.2'), filtered('DELETE', '/ipset/one'), filtered('DELETE', '/ipset/one', force=1),
    filtered('POST', '/rules', type='in', action='ACCEPT'), filtered('POST', '/rules', type='sideways', action='ACCEPT'),
    filtered('POST', '/rules', type='in'), filtered('GET', '/rules/7'), filtered('DELETE', '/rules/7'), filtered('DELETE', '/rules/0'),
    filtered('PUT', '/options', enable=1), filtered('PUT', '/options', enable='x'), filtered('PUT', '/options', policy_in='MAYBE'),
    api('GET', '/cluster/nextid', vmid=101), api('GET', '/cluster/nextid', vmid=5), api('GET', f'{LXC}/999/status/current'),
    api('POST', f'/nodes/{NODE}/vzdump', vmid=101, mode='x'), api('GET', f'/nodes/{NODE}/storage/nowhere/content'),
    api('GET', f'/nodes/{NODE}/storage/nowhere/status'), api('GET', f'/nodes/{NODE}/tasks/x/status'),
    api('GET', f'{LXC}/101/snapshot/none/config'), api('PUT', f'{LXC}/101/snapshot/none/config', description='x'),
    api('POST', f'{LXC}/101/clone', newid=101), api('POST', f'{LXC}/101/template'),
    status('stop', 101), status('stop', 101),
    change(101, protection=1), destroy(101), change(101, protection=0),
    create(99), create(102, cores=0), create(102, password='x'), create(102, storage='-', rootfs='local-lvm:1'),
    config(999), status('start', 999), status('stop', 999), destroy(999), snapshot(999, 'one'), change(999, cores=1),
    resize(999, 'rootfs', '2G'), migrate(999, 'nowhere'),
    destroy(101), config(101),
]


# What is asked of the local node while it has a container 101 with a snapshot `one`, and a backup.
QUESTIONS = [
    '/version', '/nodes', '/nodes/{node}/status', '/nodes/{node}/version', '/nodes/{node}/time', '/nodes/{node}/network',
    '/nodes/{node}/apt/versions', '/nodes/{node}/aplinfo', '/nodes/{node}/qemu', '/nodes/{node}/tasks', '/nodes/{node}/storage',
    '/nodes/{node}/storage/local/status', '/nodes/{node}/storage/local/content', '/nodes/{node}/storage/local-lvm/content',
    '/nodes/{node}/lxc', '/nodes/{node}/lxc/101/config', '/nodes/{node}/lxc/101/pending', '/nodes/{node}/lxc/101/status/current',
    '/nodes/{node}/lxc/101/interfaces', '/nodes/{node}/lxc/101/snapshot', '/nodes/{node}/lxc/101/snapshot/one/config',
    '/nodes/{node}/lxc/101/firewall/options', '/nodes/{node}/lxc/101/firewall/rules', '/nodes/{node}/lxc/101/firewall/ipset',
    '/nodes/{node}/lxc/101/firewall/ipset/ipfilter-net0', '/nodes/{node}/lxc/101/migrate', '/nodes/{node}/lxc/101/feature?feature=snapshot',
    '/cluster/status', '/cluster/resources', '/cluster/nextid', '/cluster/tasks', '/cluster/firewall/options', '/storage',
]
PREPARE = [
    ['pct', 'create', 101, TEMPLATE, '--rootfs', 'local-lvm:1', '--net0', 'name=eth0,bridge=vmbr0,firewall=1', '--tags', 'a;b', '--start', 1],
    ['pct', 'snapshot', 101, 'one', '--description', 'first'],
    ['pvesh', 'create', f'/nodes/{NODE}/vzdump', '--vmid', 101, '--storage', 'local'],
    ['pvesh', 'set', f'{LXC}/101/firewall/options', '--enable', 1, '--policy_in', 'ACCEPT'],
    ['pvesh', 'create', f'{LXC}/101/firewall/rules', '--type', 'in', '--action', 'ACCEPT', '--proto', 'tcp', '--dport', 22],
    ['pvesh', 'create', f'{LXC}/101/firewall/ipset', '--name', 'ipfilter-net0'],
    ['pvesh', 'create', f'{LXC}/101/firewall/ipset/ipfilter-net0', '--cidr', '10.0.0.1'],
]


def fits(kind, value):
    """Whether a value is of a type; Perl does not keep numbers and texts of digits apart."""
    if kind == 'boolean':
        return str(value) in ('0', '1', 'True', 'False')
    if kind in ('integer', 'number'):
        try:
            return float(value) == int(float(value)) or kind == 'number'
        except (TypeError, ValueError):
            return False
    return isinstance(value, {'string': (str, int, float), 'array': list, 'object': dict, 'null': type(None)}.get(kind, object))


def unfit(schema, value, place):
    """Where an answer is not as the published schema has it."""
    kind = schema.get('type')
    if kind and not fits(kind, value):
        yield f'{place}: {value!r} is no {kind}'
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from unfit(schema.get('items', {}), item, f'{place}[{index}]')
    elif isinstance(value, dict):
        for name, part in schema.get('properties', {}).items():
            if name in value:
                yield from unfit(part, value[name], f'{place}.{name}')
            elif not part.get('optional') and '[n]' not in name:
                yield f'{place}.{name} is missing'
    if 'enum' in schema and value not in schema['enum']:
        yield f'{place}: {value!r} is none of {schema["enum"]}'


def find_call(path):
    """The published call that an address leads to."""
    words = path.split('/')
    for known, methods in theirs.load().paths.items():
        parts = known.split('/')
        if len(parts) == len(words) and 'GET' in methods and all(p == w or p.startswith('{') for p, w in zip(parts, words)):
            yield known.count('{'), known, methods['GET']


def compare_answers():
    """The differences between the local node's answers and the published types, as sentences."""
    local = Local()
    for words in PREPARE:
        if (why := local.refusal(words)) is not None:
            return [f'{words}: {why}']
    found = []
    for question in QUESTIONS:
        path, _, query = question.replace('{node}', NODE).partition('?')
        parameters = [f'--{part.split("=")[0]}={part.split("=")[1]}' for part in query.split('&') if part]
        output = local.run(['pvesh', 'get', path, '--output-format', 'json', *parameters])
        if output.returncode != 0:
            found.append(f'{path}: {output.stderr}')
            continue
        call = min(find_call(path), key=lambda each: each[0])[2]
        found += unfit(call.get('returns', {}), json.loads(output.stdout), path)
    found += [why for why in [local.refusal(['pct', 'destroy', 101, '--force'])] if why]
    return found


def normal(words):
    if words is None:
        return None
    # Empty lines end Proxmox' own messages.
    return '\n'.join(line.strip() for line in words.splitlines() if line.strip())


async def compare_words():
    """The differences between what both say, as sentences."""
    pve = FakePve(user='root@pam', password='secret', host='127.0.0.1', port=0)
    pve.time_scale = 0
    pve.nodes.setdefault(NODE, {'online': True})
    with tempfile.TemporaryDirectory() as folder:
        certfile, keyfile, _ = make_cert(folder, hosts=('127.0.0.1',))
        await pve.start(certfile, keyfile)
    found = []
    try:
        fake = await asyncio.to_thread(Fake, pve)
        local = Local()
        for words, call in STEPS:
            said = normal(await asyncio.to_thread(fake.refusal, *call))
            ours = normal(await asyncio.to_thread(local.refusal, words))
            if said != ours:
                line = ' '.join(str(word) for word in words)
                found.append(f'{line}\n  Proxmox: {said!r}\n  here:    {ours!r}')
    finally:
        await pve.stop()
    return found


def main():
    with open(sys.argv[1], encoding='utf-8') as file:
        ours = json.load(file)
    found = compare_schema(ours)
    found += asyncio.run(compare_words())
    found += compare_answers()
    for words in found:
        print(words, file=sys.stderr)
    count = sum(len(properties) for properties in ours.values())
    print(f'{len(ours)} calls with {count} parameters and {len(STEPS)} steps and {len(QUESTIONS)} answers were compared: {len(found)} differences.')
    sys.exit(1 if found else 0)


main()
