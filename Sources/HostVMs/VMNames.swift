/// What the path of a control group shows about a process.
package enum ControlGroupNames {
    /// The innermost component that is a unit of systemd (`….service`, `….scope`).
    package static func unit(of path: String) -> String? {
        path.split(separator: "/").last { $0.hasSuffix(".service") || $0.hasSuffix(".scope") }.map { String($0) }
    }

    /// The path of the cgroup2 hierarchy in the text of /proc/PID/cgroup; nil where there is none.
    package static func path(in text: String) -> String? {
        for line in text.split(separator: "\n") where line.hasPrefix("0::") { return String(line.dropFirst(3)) }
        return nil
    }

    /// The machine's name in `machine-NAME.scope` or `systemd-nspawn@NAME.service`, as systemd-machined names units:
    /// `\xNN` is a byte. libvirt's are `qemu-NUMBER-NAME`; their number is left out.
    package static func machine(of unit: String) -> String? {
        guard unit.hasPrefix("machine-"), unit.hasSuffix(".scope") else { return nil }
        let name = unescaped(unit.dropFirst(8).dropLast(6))
        let parts = name.split(separator: "-", maxSplits: 2, omittingEmptySubsequences: false)
        if parts.count == 3, parts[0] == "qemu", !parts[1].isEmpty, parts[1].allSatisfy(\.isNumber) {
            return String(parts[2])
        }
        return name.isEmpty ? nil : name
    }

    /// The pod's uid in a path such as `/kubepods.slice/…/kubepods-burstable-podUID.slice/…`; nil outside a pod.
    package static func pod(of path: String) -> String? {
        guard path.contains("kubepods") else { return nil }
        for part in path.split(separator: "/").reversed() {
            let stem = part.hasSuffix(".slice") ? part.dropLast(6) : part
            guard let start = stem.range(of: "pod", last: true) else { continue }
            let uid = String(stem[start...].map { $0 == "_" ? "-" : $0 })
            let isUID = uid.count >= 32 && uid.allSatisfy { $0.isHexDigit || $0 == "-" }
            if isUID { return uid }
        }
        return nil
    }

    private static func unescaped(_ text: Substring) -> String {
        var bytes: [UInt8] = []
        var rest = text.utf8[...]
        while let byte = rest.popFirst() {
            if byte == UInt8(ascii: "\\"), rest.first == UInt8(ascii: "x"),
                rest.count >= 3,
                let value = UInt8(String(decoding: rest.dropFirst().prefix(2), as: UTF8.self), radix: 16)
            {
                bytes.append(value)
                rest = rest.dropFirst(3)
            } else {
                bytes.append(byte)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}

extension Substring {
    /// The index after the last occurrence of `part`; nil where it does not occur.
    fileprivate func range(of part: String, last: Bool) -> Index? {
        var found: Index?
        var position = startIndex
        while position < endIndex {
            if self[position...].hasPrefix(part) { found = index(position, offsetBy: part.count) }
            position = index(after: position)
        }
        return found
    }
}

/// A VM's name in the command line of its VMM.
package enum CommandLineNames {
    /// QEMU's `-name NAME[,…]` or `-name guest=NAME,…`; else `--name NAME`, `--name=NAME`.
    /// - Parameter arguments: as /proc/PID/cmdline has them: each ended by a zero byte.
    package static func name(in arguments: some Collection<UInt8>) -> String? {
        let words = arguments.split(separator: 0, omittingEmptySubsequences: false).map {
            String(decoding: $0, as: UTF8.self)
        }
        for (index, word) in words.enumerated() {
            if word.hasPrefix("--name=") { return nonEmpty(String(word.dropFirst(7))) }
            guard word == "-name" || word == "--name", index + 1 < words.count else { continue }
            let options = words[index + 1].split(separator: ",", omittingEmptySubsequences: false)
            let guest = options.first { $0.hasPrefix("guest=") }.map { $0.dropFirst(6) } ?? options.first
            return nonEmpty(String(guest ?? ""))
        }
        return nil
    }

    private static func nonEmpty(_ text: String) -> String? { text.isEmpty ? nil : text }
}
