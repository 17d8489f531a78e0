"""Names of params as people give them: those of credentials, and those that merely look like them."""

from __future__ import annotations


def _names(text: str) -> list[str]:
    return text.split()


SECRETS = _names(
    """
    password passwd PASSWORD db_password dbPassword DB_PASSWORD passwordHash admin_passwd passphrase
    ssh_passphrase pwd user_pwd pw db_pw mysql_pass smtpPass user_pass api_key apiKey API_KEY APIKey
    apikey api_keys openai_api_key OPENAI_API_KEY wandb_key WANDB_API_KEY api-key x-api-key access_key
    accessKey aws_access_key_id aws_secret_access_key AWS_SECRET_ACCESS_KEY accessKeyId secret_key
    SECRET_KEY private_key ssh_private_key encryption_key signing_key account_key AccountKey master_key
    service_account_key license_key session_key secret client_secret clientSecret app_secret
    webhook_secret secrets token hub_token push_to_hub_token hf_token HF_TOKEN HUGGING_FACE_HUB_TOKEN
    access_token accessToken auth_token authToken refresh_token id_token session_token aws_session_token
    github_token GITHUB_TOKEN gh_pat slack_bot_token api_token oauth_token oauth2_token bearer_token
    csrf_token sas_token personal_access_token bearer authorization Authorization proxy_authorization
    auth basic_auth http_auth auth_header credentials aws_credentials credential creds cookie
    session_cookie cookies jwt jwt_token dsn sentry_dsn connection_string connectionString conn_str
    slack_webhook_url webhook api_key_2 password1 mlflow_tracking_token databricks_token use_auth_token
    passcode pass PASS pass_word passWord pwds teams_webhook GEMINI_KEY KAGGLE_KEY REDIS_AUTH user_token
    hub_token_value api_key_value access_token_str auth_token_string wandb.key db.pass api.key my.wandb.key
    x.password tls_key
    """
)

HARMLESS = _names(
    """
    num_tokens max_tokens max_new_tokens min_tokens n_tokens total_tokens tokens tokens_per_second
    prompt_tokens completion_tokens cached_tokens token_count tokenizer tokenizer_name tokenizer_path
    tokenization token_dropout token_type token_type_ids pad_token eos_token bos_token unk_token
    mask_token sep_token cls_token stop_token image_token special_tokens additional_special_tokens
    pad_token_id eos_token_id token_embedding token_level_loss token_budget tokens_seen tokenwise_loss
    vocab_token_file key key_dim keys num_keys key_size value_size kv_cache key_value_heads
    num_key_value_heads query_key_norm qk_norm key_padding_mask primary_key foreign_key partition_key
    sort_key group_key metric_key key_metric cache_key public_key keyword keywords keypoints keyframes
    keyboard monkey donkey hockey turkey key_names lookup_key label_key image_key text_key input_key
    output_key target_key jax_prng_key rng_key random_key pass_rate pass_at_k pass_at_1 passes
    num_passes forward_pass backward_pass two_pass single_pass bypass compass passenger_count low_pass
    high_pass lowpass pwd_len password_length author authors author_id authority author_name auth_method
    auth_type n_authors secretary secretary_problem secret_size secretion session_id user user_name
    username signature model_signature prompt_signature private is_private privacy_budget
    private_epsilon license credential_type cookiecutter accuracy patience patch_size pattern patch
    pat_score path best_path pin_memory pinned salt assault hash content_hash dns dsnt_loss connection
    connections string strings conn_timeout wandb_project hf_home hf_model github_repo webhook_retries
    api_base api_url api_version access_log access_pattern service region bucket database_name
    shared_weights master_port master_addr client client_id app_name bot_name basic_block proxy
    token_ids api_key_env api_key_env_var password_file secret_name credentials_path key_id encryption
    encoder_decoder decoding_strategy input_tokens output_tokens seed_tokens tied_keys keystroke
    s3_key sort.key metric.key image.key key.name random.key wandb.project token_str token_value pass_fail
    connection_value key_value query_key_value shared.keys wandb.keys password.length webhook_count
    write_tokens_per_s soft_prompt_tokens max_seq_length
    """
)
