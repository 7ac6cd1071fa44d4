"""The traps of interoperating (peers.md, section 10), each with the tests that would fall into it.

A trap stands here with the tests that show it, wherever they are; that they exist is what this module tests.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]

TRAPS: dict[int, tuple[str, tuple[str, ...]]] = {
    1: (
        "the wrong body",
        (
            "test_dialects.py::test_the_legacy_body_has_every_member_that_its_readers_demand",
            "test_dialects.py::test_the_modern_body_has_nothing_that_its_readers_refuse",
            "test_dialects.py::test_a_body_that_is_refused_is_followed_by_the_other_once",
        ),
    ),
    2: (
        "a folder to those who know files only",
        (
            "test_dialects.py::test_a_folder_is_called_what_the_product_takes",
            "test_dialects.py::test_what_ocm_go_would_refuse_is_not_sent",
            "test_sending.py::test_an_old_peer_gets_the_body_that_it_reads_and_the_same_type_ever_after",
        ),
    ),
    3: (
        "a new version shown to Nextcloud up to 31",
        (
            "api/test_discovery.py::test_nextcloud_up_to_31_sees_the_version_that_it_takes",
            "peers/test_our_document.py::nextcloud_31",
        ),
    ),
    4: (
        "/.well-known/ocm alone",
        (
            "api/test_discovery.py::test_the_document_is_at_all_four_paths_of_the_host_and_of_the_base",
            "test_peers.py::test_an_old_peer_is_discovered_at_its_old_path",
        ),
    ),
    5: (
        "folder not advertised, file not first",
        ("peers/test_our_document.py::reva", "peers/test_our_document.py::seafile"),
    ),
    6: (
        "an object where a string is expected",
        (
            "peers/test_our_document.py::opencloud_wayf",
            "spec/test_discovery.py::test_objects_among_the_protocols_can_be_left_out",
        ),
    ),
    7: (
        "URLs without their capability, or at another authority",
        (
            "peers/test_our_document.py::ocm_go",
            "spec/test_discovery.py::test_urls_without_their_capability_are_not_shown",
            "spec/test_discovery.py::test_a_capability_is_advertised_with_its_url_and_a_criterion_with_its_capability",
        ),
    ),
    8: (
        "200 taken for a failure",
        (
            "test_dialects.py::test_each_answer_that_means_taken_is_taken_for_that",
            "api/test_endpoints.py::test_a_signed_share_is_taken",
            "api/test_endpoints.py::test_a_notification_does_what_it_says",
        ),
    ),
    9: (
        "a root that needs an id",
        (
            "peers/test_access.py::test_nextcloud_finds_the_share_at_the_bare_root_by_its_secret",
            "peers/test_access.py::test_a_single_file_is_the_root_itself_and_no_collection",
        ),
    ),
    10: (
        "only Basic, or only Bearer",
        (
            "peers/test_access.py::test_reva_tries_bearer_and_then_basic_and_opencloud_bearer_alone",
            "dav/test_credentials.py::test_every_form_of_credential_opens_the_share_bare_and_by_id",
            "test_remote.py::test_each_product_is_asked_in_its_own_ways_alone",
        ),
    ),
    11: (
        "a password of colons, PROPFIND without Depth",
        ("peers/test_access.py::test_seafile_lists_one_level_without_saying_so",),
    ),
    12: (
        "a passing 401, /status.php and /ocs-provider/",
        (
            "api/test_discovery.py::test_what_is_not_served_is_not_there",
            "dav/test_longtail.py::test_a_share_whose_folder_is_gone_answers_503_in_every_method",
            "federation/test_root_change.py::test_while_a_nas_is_unmounted_every_request_is_told_to_come_again",
        ),
    ),
    13: (
        "other statuses, redirects, hrefs and ETags than expected",
        (
            "peers/test_access.py::test_what_products_write_is_answered_as_they_expect",
            "peers/test_access.py::test_nothing_is_redirected",
            "dav/test_propfind.py::test_a_listing_begins_with_the_collection_and_its_folders_end_with_a_slash",
            "dav/test_changes.py::test_a_change_shows_in_every_folder_above_and_in_no_other",
        ),
    ),
    14: ("no permissions among the properties", ("dav/test_propfind.py::test_rights_are_told_in_all_three_ways",)),
    15: (
        "one server under several names",
        (
            "spec/test_addresses.py::test_a_server_has_one_form",
            "api/test_endpoints.py::test_a_share_in_the_name_of_somebody_else_is_refused",
        ),
    ),
    16: (
        "ids with hosts and schemes in them",
        (
            "spec/test_addresses.py::test_what_products_write_is_normalised",
            "peers/test_profiles.py::test_what_each_product_sends_is_read",
        ),
    ),
    17: (
        "now signed and now not, another key under an old name",
        (
            "test_peers.py::test_a_request_is_signed_for_a_peer_that_verifies",
            "test_peers.py::test_a_request_is_not_signed_for_a_peer_that_does_not_verify",
            "test_signing_keys.py::test_numbers_are_compared_as_numbers_and_never_used_again",
            "test_signing_keys.py::test_the_same_keys_are_there_at_the_next_start",
        ),
    ),
    18: (
        "details of RFC 9421",
        (
            "spec/test_signing.py::test_the_signature_covers_exactly_the_four_components",
            "spec/test_signing.py::test_the_parameters_are_created_keyid_and_the_tag",
            "spec/test_signing.py::test_the_digest_is_sha_256_and_the_length_is_that_of_the_body",
        ),
    ),
    19: (
        "no invite",
        (
            "test_dialects.py::test_a_refused_stranger_is_told_to_exchange_an_invite_first",
            "cli/test_peer_dialects.py::test_the_operator_is_told_that_an_invite_comes_first",
        ),
    ),
    20: (
        "null, empty and unknown members",
        (
            "test_dialects.py::test_the_modern_body_has_nothing_that_its_readers_refuse",
            "spec/test_share_serialising.py::test_what_is_unset_is_not_sent_and_requirements_are_never_empty",
        ),
    ),
    21: (
        "a sender that is not who the invite said",
        (
            "test_dialects.py::test_sender_and_owner_are_the_same_id_in_every_share",
            "peers/test_invites.py::test_it_accepts_an_invite_of_ours",
            "peers/test_dialects.py::test_a_folder_of_ours",  # oCIS: after an invite, by the id that the invite told
        ),
    ),
    22: (
        "notifications in every dialect",
        (
            "test_dialects.py::test_a_message_to_others_has_secret_and_id_in_both_places",
            "test_dialects.py::test_ocis_is_told_the_grantee_and_the_whole_protocol",
            "test_dialects.py::test_a_product_without_the_message_is_not_told_of_new_permissions",
            "api/test_hints.py::test_a_share_that_is_really_gone_ends",
            "spec/test_notifications.py::test_nextcloud_is_understood",
            "spec/test_notifications.py::test_ocis_is_understood",
            "spec/test_notifications.py::test_the_stub_s_key_for_the_type_is_understood",
        ),
    ),
    23: (
        "certificates of one's own",
        (
            "federation/test_variants.py::test_sites_that_speak_tls_with_a_ca_of_the_system",
            "federation/test_variants.py::test_a_certificate_that_nobody_vouches_for_is_named_as_the_reason",
        ),
    ),
    24: (
        "an absolute uri that names ourselves",
        (
            "peers/test_our_document.py::ocm_go_sends_relative",
            "spec/test_names_and_uris.py::test_an_absolute_uri_that_names_ourselves_is_rebuilt_at_the_sender",
        ),
    ),
    25: ("too many requests", ("test_sending.py::test_a_peer_that_cannot_answer_is_asked_again",)),
    26: ("write to those who only read", ("test_dialects.py::test_what_ocm_go_would_refuse_is_not_sent",)),
    27: (
        "expiration 0",
        (
            "spec/test_share_creation_notification.py::test_expiration_0_null_or_absent_is_never",
            "peers/test_profiles.py::test_what_each_product_sends_is_read",
        ),
    ),
}


def functions_of(file: str) -> set[str]:
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_trap_is_in_the_list() -> None:
    assert list(TRAPS) == list(range(1, 28))


@pytest.mark.parametrize("number", TRAPS, ids=lambda number: f"trap-{number}")
def test_the_tests_of_a_trap_exist(number: int) -> None:
    _, tests = TRAPS[number]
    assert tests
    for test in tests:
        file, _, name = test.partition("::")
        assert name in functions_of(file), test
