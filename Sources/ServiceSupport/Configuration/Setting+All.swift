internal import Logging
internal import MemoryUnits

extension Setting {
    /// Every key of `tdxd.conf`, in the order of the shipped file.
    public static let all: [Setting] = [
        path("service", "socket", \.service.socket, limit: maximumSocketPath),
        mode("service", "socket_mode", \.service.socketMode),
        // Holders' sockets live in it: their names take up to 60 of a socket path's 107 bytes.
        path("service", "runtime_directory", \.service.runtimeDirectory, limit: 47),
        path("service", "state_directory", \.service.stateDirectory),
        // All of them are listed in one answer.
        number("service", "certificates_kept", \.service.certificatesKept, 1...10_000),
        numberOrNone("service", "certificate_days", \.service.certificateDays, 1...36_500),
        pathsOrAny("service", "firmware_directories", \.service.firmwareDirectories),
        choice("service", "on_stop", \.service.onStop),
        choice("service", "other_vms", \.service.otherVMs),
        choice("service", "log_level", \.service.logLevel),

        group("access", "admin_group", \.access.adminGroup),
        group("access", "operate_group", \.access.operateGroup),
        group("access", "observe_group", \.access.observeGroup),
        users("access", "admin_users", \.access.adminUsers),
        users("access", "operate_users", \.access.operateUsers),
        users("access", "observe_users", \.access.observeUsers),
        choice("access", "others", \.access.others),

        choice("backend", "backend", \.backends.backend),
        number("backend", "emulated_key_ids", \.backends.emulatedKeyIDs, 1...4096),
        choice("backend", "emulated_terminate", \.backends.emulatedTerminate),
        // A name of 32 digits and an ending are added.
        pathOrNone("backend", "emulated_traces", \.backends.emulatedTraces, limit: 4000),
        choice("backend", "emulated_last_will", \.backends.emulatedLastWill),
        choice("backend", "emulated_pause_at", \.backends.emulatedPauseAt),
        choice("backend", "emulated_stuck_vcpu", \.backends.emulatedStuckVCPU),
        choice("backend", "emulated_pre_fault", \.backends.emulatedPreFault),
        numberOrNone("backend", "emulated_failing_removal", \.backends.emulatedFailingRemoval, 1...1_000_000_000_000),

        size(
            "memory", "shard_minimum", \.memory.shardMinimum, .mebibytes(2)...(.gibibytes(1024)),
            multipleOf: .mebibytes(2)),
        size(
            "memory", "release_chunk", \.memory.releaseChunk, .mebibytes(2)...(.mebibytes(64)),
            multipleOf: .mebibytes(2)),
        number("memory", "release_threads", \.memory.releaseThreads, 1...64),
        size("memory", "reserve", \.memory.reserve, .zero...(.gibibytes(1024)), multipleOf: ByteCount(pageSize)),
        number("memory", "conversion_storm", \.memory.conversionStorm, 1...1_000_000_000),
        duration(
            "memory", "conversion_storm_window", \.memory.conversionStormWindow,
            .milliseconds(100)...(.seconds(3600))),

        choice("teardown", "policy", \.teardown.policy),
        choice("teardown", "wait", \.teardown.wait),
        pace("teardown", "rate", \.teardown.rate, .mebibytes(1)...(.gibibytes(1024))),
        choice("teardown", "last_will", \.teardown.lastWill),

        number("limits", "trust_domains", \.limits.trustDomains, 1...4096),
        size(
            "limits", "trust_domain_memory", \.limits.trustDomainMemory, ByteCount(pageSize)...(.gibibytes(64 << 10)),
            multipleOf: ByteCount(pageSize)),
        number("limits", "trust_domain_vcpus", \.limits.trustDomainVCPUs, 1...4096),
        number("limits", "connections", \.limits.connections, 1...4096),
        number("limits", "connections_per_user", \.limits.connectionsPerUser, 1...4096),
        size("limits", "message_size", \.limits.messageSize, .kibibytes(4)...(.mebibytes(1)), multipleOf: ByteCount(1)),

        duration("deadlines", "holder_start", \.deadlines.holderStart, .milliseconds(100)...(.seconds(600))),
        duration("deadlines", "holder_reply", \.deadlines.holderReply, .milliseconds(100)...(.seconds(600))),
        duration("deadlines", "build", \.deadlines.build, .seconds(1)...(.seconds(86400))),
        duration("deadlines", "stop", \.deadlines.stop, .seconds(1)...(.seconds(86400))),
        duration("deadlines", "prove", \.deadlines.prove, .milliseconds(100)...(.seconds(86400))),
        duration("deadlines", "check", \.deadlines.check, .seconds(1)...(.seconds(3600))),
        duration("deadlines", "first_message", \.deadlines.firstMessage, .milliseconds(100)...(.seconds(3600))),
        duration("deadlines", "idle", \.deadlines.idle, .seconds(1)...(.seconds(86400))),
        duration("deadlines", "client", \.deadlines.client, .milliseconds(100)...(.seconds(3600))),
        duration("deadlines", "drain", \.deadlines.drain, .seconds(1)...(.seconds(86400))),
    ]
}
