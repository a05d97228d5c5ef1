internal import ControlInterface

/// What tdxd knows, as OpenMetrics 1.0 text: names with units, a line of help each, and the end mark.
struct Metrics {
    var domains: [TrustDomain]
    var keys: ManagerInterface.GetKeys.Reply
    var certificates: [CertificateSummary]
    var drain: DrainStatus

    var text: String {
        var text = ""
        func family(_ name: String, _ help: String, unit: String? = nil, _ samples: [Sample]) {
            // Gauges alone: node-exporter reads an older format, which knows no “info”.
            text += "# TYPE \(name) gauge\n"
            if let unit { text += "# UNIT \(name) \(unit)\n" }
            text += "# HELP \(name) \(help)\n"
            for sample in samples { text += sample.line(name) }
        }
        family(
            "tdxd_info", "The backend that runs TDs; emulated is true unless it is real hardware.",
            [
                Sample(
                    1,
                    [
                        ("backend", keys.backend.rawValue), ("emulated", String(keys.emulated)),
                        ("version", ControlInterfaceVersion.text),
                    ])
            ])
        family(
            "tdxd_trust_domains", "TDs by state.",
            TrustDomainState.allCases.map { state in
                Sample(domains.count { $0.state == state }, [("state", state.rawValue)])
            })
        let byDomain: [(String, String, (TrustDomain) -> UInt64?)] = [
            ("memory", "Memory that a TD was given.", { $0.memoryBytes }),
            ("private", "Memory of a TD that is private by its attribute map.", { $0.privateBytes }),
            ("shared", "Memory of a TD that is shared by its attribute map.", { $0.sharedBytes }),
            ("converting", "Memory of a TD in transition; counts as private.", { $0.convertingBytes }),
            (
                "resident_private", "Private memory of a TD that is resident, counted by the kernel.",
                { $0.residentPrivateBytes }
            ),
            (
                "resident_shared", "Shared memory of a TD that is resident, counted by the kernel.",
                { $0.residentSharedBytes }
            ),
        ]
        for (name, help, value) in byDomain {
            family(
                "tdxd_trust_domain_\(name)_bytes", help, unit: "bytes",
                domains.compactMap { domain in value(domain).map { Sample($0, Self.labels(domain)) } })
        }
        family("tdxd_key_ids_capacity", "Key ids that there are for TDs.", keys.capacity.map { [Sample($0)] } ?? [])
        family(
            "tdxd_key_ids", "Key ids by use; draining ones are not proven back.",
            (keys.free.map { [Sample($0, [("use", "free")])] } ?? []) + [
                Sample(keys.reserved, [("use", "reserved")]),
                Sample(keys.inUse, [("use", "in_use")]), Sample(keys.draining, [("use", "draining")]),
            ])
        family(
            "tdxd_certificates", "Teardown certificates that are kept, by verdict.",
            [
                ("complete", { $0.complete }), ("pending", { $0.pending != nil }),
                ("incomplete", { !$0.complete && $0.pending == nil }),
            ].map { verdict, holds in
                Sample(certificates.count(where: holds), [("verdict", verdict)])
            } as [Sample])
        family(
            "tdxd_last_teardown_seconds", "How long the end took that began last of those that are over.",
            unit: "seconds",
            certificates.first { $0.pending == nil }.map { [Sample($0.milliseconds / 1000)] } ?? [])
        family(
            "tdxd_draining", "1 while the host is being emptied for that purpose.",
            DrainPurpose.allCases.map { Sample(drain.purpose == $0 ? 1 : 0, [("purpose", $0.words)]) })
        family(
            "tdxd_drain_ready", "1 when the host is being emptied and nothing stands against the purpose any more.",
            [Sample(drain.ready ? 1 : 0)])
        return text + "# EOF\n"
    }

    private static func labels(_ domain: TrustDomain) -> [(String, String)] {
        [("td", domain.name), ("state", domain.state.rawValue)]
    }

    struct Sample {
        var value: String
        var labels: [(name: String, value: String)]

        init(_ value: some BinaryInteger, _ labels: [(String, String)] = []) {
            self.value = String(value)
            self.labels = labels
        }

        init(_ value: Double, _ labels: [(String, String)] = []) {
            self.value = "\(value)"
            self.labels = labels
        }

        func line(_ name: String) -> String {
            let pairs = labels.map { "\($0.name)=\"\(Self.escaped($0.value))\"" }.joined(separator: ",")
            return name + (pairs.isEmpty ? "" : "{\(pairs)}") + " \(value)\n"
        }

        /// Backslash, quote and line feed are escaped, by the format's rule.
        static func escaped(_ text: String) -> String {
            var result = ""
            for scalar in text.unicodeScalars {
                switch scalar {
                case "\\": result += "\\\\"
                case "\"": result += "\\\""
                case "\n": result += "\\n"
                // A terminal would act upon it; the format has no escape of its own for it.
                case _ where isControl(scalar): result += "\\\\u{" + String(scalar.value, radix: 16) + "}"
                default: result.unicodeScalars.append(scalar)
                }
            }
            return result
        }
    }
}
